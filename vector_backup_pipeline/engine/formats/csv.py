"""CSV exactly as PostgreSQL's COPY writes it (CopyAttributeOutCSV in copyto.c).

NULL is nothing, the empty string is `""`; a value is quoted when it is empty, or holds the
delimiter, the quote, a line feed or a carriage return; a sole column's `\\.` is quoted, since older
servers would read it as the end of the data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NEEDS_QUOTES = re.compile('[",\r\n]').search


def csv_record(values: Sequence[str | None]) -> bytes:
    """One record with its line end, UTF-8."""
    sole = len(values) == 1
    return (",".join([_field(value, sole=sole) for value in values]) + "\n").encode()


def _field(value: str | None, *, sole: bool) -> str:
    if value is None:
        return ""
    if not value or _NEEDS_QUOTES(value) or (sole and value == "\\."):
        return '"' + value.replace('"', '""') + '"'
    return value
