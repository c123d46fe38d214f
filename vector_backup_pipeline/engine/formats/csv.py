"""CSV exactly as PostgreSQL's COPY writes it (CopyAttributeOutCSV in copyto.c).

NULL is an empty field, the empty string is `""`. A value is quoted if it is empty or has a
delimiter, a quote, a line feed or a carriage return. `\\.` in a sole column is quoted, since older
servers would read it as the end of the data.
"""

import re
from collections.abc import Sequence

_FIELD = re.compile(r'"([^"]*(?:""[^"]*)*)"|([^,]*)')
_NEEDS_QUOTES = re.compile('[",\r\n]').search


def csv_record(values: Sequence[str | None]) -> bytes:
    """One record with its line end, in UTF-8; bytes of a SQL_ASCII database are unchanged."""
    sole = len(values) == 1
    record = ",".join([_field(value, sole=sole) for value in values]) + "\n"
    return record.encode(errors="surrogateescape")


def _field(value: str | None, *, sole: bool) -> str:
    if value is None:
        return ""
    if not value or _NEEDS_QUOTES(value) or (sole and value == "\\."):
        return '"' + value.replace('"', '""') + '"'
    return value


def csv_fields(record: str) -> list[str | None]:
    """The values of one record, with or without its line end; the reverse of `csv_record`."""
    values: list[str | None] = []
    end, at = len(record.rstrip("\n")), 0
    while True:
        match = _FIELD.match(record, at, end)
        quoted, plain = match.groups() if match else (None, record[at:end])
        values.append(plain or None if quoted is None else quoted.replace('""', '"'))
        at = match.end() if match else end
        if at >= end:
            return values
        at += 1
