"""Names of tables as a caller writes them: literal, case-sensitive, quotes only to protect dots."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams

_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
# The same names as `parse_table_name` takes, for schemas.
_QUOTED_PART = r'"([^"\u0000]|"")+"'
TABLE_PATTERN = (
    rf'^({_QUOTED_PART}|[^".\u0000][^.\u0000]*)(\.({_QUOTED_PART}|[^"\u0000][^\u0000]*))?$'
)
# Quotes protect what is in them only where a part of a name begins; elsewhere they are letters.
_PROTECTED = r'(?<![^,.=\s])"(?:[^"]|"")*"'
_IN_LIST = re.compile(rf"(?:{_PROTECTED}|[^,])+")
_PAIR = re.compile(rf"((?:{_PROTECTED}|[^=])+)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class TableName:
    """A table as the caller named it: literal, case-sensitive, `schema` None for a bare name."""

    schema: str | None
    name: str


def parse_table_name(text: str) -> TableName:
    """Split `name` or `schema.name`: the first dot splits; `"…"` protects dots, `""` is a quote.

    Raises:
        InvalidParams: the name is malformed.
    """
    name = _parsed(text)
    if name is None:
        raise InvalidParams(f"The table name {malformed(text)}")
    return name


def malformed(text: str) -> str:
    return (
        f"{text!r} is malformed. Write name or schema.name, as the database spells it; put a name "
        'that holds a dot in double quotes: "my.table" or app."my.table".'
    )


def check_table_name(text: str) -> str:
    """Raises ValueError, as models take it."""
    if _parsed(text) is None:
        raise ValueError(f"holds a table name that can't be read: {malformed(text)}")
    return text


def check_different(tables: Sequence[str]) -> None:
    """Raise ValueError if a table is named twice, however it is spelled."""
    seen: dict[TableName, str] = {}
    for table in tables:
        name = parse_table_name(table)
        if name in seen:
            raise ValueError(f"names the table {table!r} twice (also as {seen[name]!r}).")
        seen[name] = table


def split_tables(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; a comma inside double quotes belongs to its name."""
    return tuple(part.strip() for part in _IN_LIST.findall(text) if part.strip())


def split_names(text: str) -> tuple[str, ...]:
    """The names in a line of CSV: one that holds a comma stands in double quotes.

    Raises:
        ValueError: a quote is not closed.
    """
    try:
        return tuple(next(csv.reader([text], strict=True), []))
    except csv.Error as error:
        raise ValueError(f"can't be split at its commas: {error}.") from error


def split_pair(text: str) -> tuple[str, str]:
    """The two names of `OLD=NEW`; an equals sign inside double quotes belongs to its name.

    Raises:
        ValueError: it is no such text.
    """
    found = _PAIR.fullmatch(text)
    if found is None:
        raise ValueError(f"is {text!r}; write OLD=NEW, such as docs=rescued.docs.")
    return found[1], found[2]


def _parsed(text: str) -> TableName | None:
    first, rest = _take_part(text)
    if not first:
        return None
    if rest is None:
        return TableName(schema=None, name=first)
    second, after = _take_part(rest) if rest.startswith('"') else (rest, None)
    if not second or after is not None or "\0" in second:
        return None
    return TableName(schema=first, name=second)


def _take_part(text: str) -> tuple[str | None, str | None]:
    """The name at the start of `text` (None if it is malformed), and what follows its dot (None
    without a dot)."""
    if text.startswith('"'):
        match = _QUOTED.match(text)
        if match is None:
            return None, None
        part, rest = match.group(1).replace('""', '"'), text[match.end() :]
        if rest and not rest.startswith("."):
            return None, None
        after = rest[1:] if rest else None
    else:
        part, dot, rest = text.partition(".")
        after = rest if dot else None
    if not part or "\0" in part or after == "":
        return None, None
    return part, after
