"""What a caller may ask of a backup, checked once for every door."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from vector_backup_pipeline.engine.errors import InvalidParams

Format = Literal["csv", "binary"]
Compression = Literal["none", "gzip", "zstd"]
_Choice = TypeVar("_Choice", bound=str)

EXPORT_METHODS = ("copy", "cursor")
FORMATS: tuple[Format, ...] = get_args(Format)
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
# First the fast level, which is the default: vectors hardly get smaller with a slower one.
COMPRESSION_LEVELS: Mapping[str, range] = {"gzip": range(1, 10), "zstd": range(1, 23)}
DEFAULT_BATCH_SIZE = 10_000
DEFAULT_PROGRESS_EVERY = 50_000
# A connection is a server process: past a few a backup only takes cores from the queries it shares
# the server with.
DEFAULT_WORKERS = min(4, os.cpu_count() or 1)
MOST_WORKERS = 64

_TASK_ID = re.compile(r"[A-Za-z0-9_]+")
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')


@dataclass(frozen=True)
class TableName:
    """A table as the caller named it: literal, case-sensitive, `schema` None for a bare name."""

    schema: str | None
    name: str


@dataclass(frozen=True)
class BackupRequest:
    """The parameters of one run, checked. The connection is not among them: it is a secret."""

    task_id: str | None
    truncate_vector_tables: bool
    backup_vector_tables: bool
    tables: tuple[str, ...]
    truncate_tables: tuple[str, ...]
    batch_size: int
    progress_every: int
    workers: int
    export_method: str
    format: Format
    compression: Compression
    compression_level: int | None

    def __post_init__(self) -> None:
        check_task_id(self.task_id)
        check_tables(self.tables)
        check_choice("export_method", self.export_method, EXPORT_METHODS)
        check_choice("format", self.format, FORMATS)
        check_choice("compression", self.compression, COMPRESSIONS)
        check_at_least_one("batch_size", self.batch_size)
        check_at_least_one("progress_every", self.progress_every)
        check_at_least_one("workers", self.workers)
        if self.workers > MOST_WORKERS:
            raise InvalidParams(f"workers is {self.workers}; at most {MOST_WORKERS} are allowed.")
        self._check_compression_level()
        if (self.export_method, self.format) == ("cursor", "binary"):
            raise InvalidParams(
                "export_method 'cursor' gives values as text, and format 'binary' is COPY's own. "
                "Use export_method 'copy', or format 'csv'."
            )
        if self.truncate_vector_tables:
            self._check_truncated_tables_are_exported()

    @property
    def does_nothing(self) -> bool:
        return not (self.backup_vector_tables or self.truncate_vector_tables)

    @property
    def tables_to_truncate(self) -> tuple[str, ...]:
        """The tables this run shall empty, spelled as in `tables`; none if it was not asked to."""
        if not self.truncate_vector_tables:
            return ()
        wanted = {parse_table_name(table) for table in self.truncate_tables}
        return tuple(table for table in self.tables if parse_table_name(table) in wanted)

    def _check_compression_level(self) -> None:
        level, levels = self.compression_level, COMPRESSION_LEVELS.get(self.compression)
        if level is None:
            return
        if levels is None:
            raise InvalidParams(
                f"compression_level is {level}, but compression is 'none'. Leave "
                "compression_level out."
            )
        if level not in levels:
            raise InvalidParams(
                f"compression_level is {level}; with {self.compression} it must be from "
                f"{levels[0]} to {levels[-1]}."
            )

    def _check_truncated_tables_are_exported(self) -> None:
        if not self.truncate_tables:
            raise InvalidParams(
                "truncate_vector_tables is true, but no table is set to be truncated. "
                "Name them in VECTOR_BACKUP_TRUNCATE_TABLES."
            )
        exported = {parse_table_name(table) for table in self.tables}
        for table in self.truncate_tables:
            if parse_table_name(table) not in exported:
                raise InvalidParams(
                    f"The table {table!r} would be truncated but is not among the tables of this "
                    f"run ({', '.join(self.tables)}). A table is only truncated after its own "
                    "complete backup in the same run: add it to tables in the same spelling, or "
                    "leave truncate_vector_tables out."
                )


def check_task_id(task_id: str | None) -> None:
    if task_id is not None and not _TASK_ID.fullmatch(task_id):
        raise InvalidParams(
            f"The task_id {task_id!r} is not valid: only ASCII letters, digits and '_' are allowed."
        )


def is_task_id(text: str) -> bool:
    return _TASK_ID.fullmatch(text) is not None


def check_tables(tables: Sequence[str]) -> None:
    if not tables:
        raise InvalidParams("tables is empty: name at least one table, or leave it out.")
    seen: dict[TableName, str] = {}
    for table in tables:
        name = parse_table_name(table)
        if name in seen:
            raise InvalidParams(f"The table {table!r} is named twice (also as {seen[name]!r}).")
        seen[name] = table


def parse_table_name(text: str) -> TableName:
    """Split `name` or `schema.name`: the first dot splits; `"…"` protects dots, `""` is a quote."""
    first, rest = _take_part(text, text)
    if rest is None:
        return TableName(schema=None, name=first)
    if rest.startswith('"'):
        second, after = _take_part(rest, text)
        if after is not None:
            raise _malformed_name(text)
    else:
        second = rest
    if not second:
        raise _malformed_name(text)
    return TableName(schema=first, name=second)


def _take_part(text: str, whole: str) -> tuple[str, str | None]:
    """The name at the start of `text`, and what follows its dot (None without a dot)."""
    if text.startswith('"'):
        match = _QUOTED.match(text)
        if match is None:
            raise _malformed_name(whole)
        part, rest = match.group(1).replace('""', '"'), text[match.end() :]
        if rest and not rest.startswith("."):
            raise _malformed_name(whole)
        after = rest[1:] if rest else None
    else:
        part, dot, rest = text.partition(".")
        after = rest if dot else None
    if not part or "\0" in part or after == "":
        raise _malformed_name(whole)
    return part, after


def _malformed_name(text: str) -> InvalidParams:
    return InvalidParams(
        f"The table name {text!r} is malformed. Write name or schema.name, as the database spells "
        'it; put a name that holds a dot in double quotes: "my.table" or app."my.table".'
    )


def check_choice(key: str, value: str, choices: Sequence[_Choice]) -> _Choice:
    """The choice that `value` is. Raises `InvalidParams` if it is none."""
    for choice in choices:
        if choice == value:
            return choice
    raise InvalidParams(f"{key} is {value!r}; it must be one of: {', '.join(choices)}.")


def check_at_least_one(key: str, value: int) -> None:
    if value < 1:
        raise InvalidParams(f"{key} is {value}; it must be at least 1.")
