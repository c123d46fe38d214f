"""Names of tables as callers write them: literal, case-sensitive, quoted only to protect dots."""

import re
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams

_QUOTED = r'"((?:[^"\u0000]|"")+)"'
# The first dot splits. The same pattern stands in the API's schema.
TABLE_PATTERN = (
    rf'^(?:{_QUOTED}|([^".\u0000][^.\u0000]*))(?:\.(?:{_QUOTED}|([^"\u0000][^\u0000]*)))?$'
)
_TABLE = re.compile(TABLE_PATTERN)
# Only quotes at the beginning of a name or after a dot protect commas.
_IN_LIST = re.compile(r'(?:(?<![^,.\s])"(?:[^"]|"")*"|[^,])+')


@dataclass(frozen=True)
class TableName:
    """A table as the caller named it; `schema` is None for a bare name."""

    schema: str | None
    name: str


def parse_table_name(text: str) -> TableName:
    """Split `name` or `schema.name`: the first dot splits, `"…"` protects dots, `""` is a quote.
    Raises `InvalidParams` if the name is malformed."""
    match = _TABLE.fullmatch(text)
    if match is None:
        raise InvalidParams(
            f"The table name {text!r} is malformed. Write name or schema.name, as the database "
            'spells it; put a name with a dot in double quotes: "my.table" or app."my.table".'
        )
    quoted, plain, quoted_second, plain_second = match.groups()
    first = quoted.replace('""', '"') if quoted else plain
    second = quoted_second.replace('""', '"') if quoted_second else plain_second
    return TableName(None, first) if second is None else TableName(first, second)


def check_different(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raise `ValueError` if a table is named twice, however it is spelled."""
    spellings: dict[TableName, str] = {}
    for name in names:
        table = parse_table_name(name)
        if table in spellings:
            raise ValueError(f"names the table {name!r} twice (also as {spellings[table]!r}).")
        spellings[table] = name
    return names


def split_tables(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; a comma inside double quotes belongs to its name."""
    return tuple(part.strip() for part in _IN_LIST.findall(text) if part.strip())
