"""Backups of one table, `docs`, that build on one another."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pytest

from vector_backup_pipeline.engine.file_names import manifest_name
from vector_backup_pipeline.engine.manifest import Manifest, TableBackup
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database

ROWS = 20


@dataclass
class Chain:
    """Makes backups of the table, each with the same parameters."""

    database: Database
    backup: BackupMaker
    parameters: dict[str, Any] = field(default_factory=dict)

    def make(self, **parameters: Any) -> FinishedBackup:
        defaults: dict[str, Any] = {"tables": ("docs",), "truncate_tables": (), "mode": "auto"}
        return self.backup(self.database.url, **(defaults | self.parameters | parameters))

    def table(self, **parameters: Any) -> TableBackup:
        made = self.make(**parameters)
        assert made.error is None, made.error
        (table,) = made.manifest.tables
        return table

    def check_content(self, table: TableBackup) -> None:
        """The set stands for the table's rows as they are now."""
        full = self.table(mode="full")
        assert (table.rows, table.digest) == (full.rows, full.digest)

    def rewrite(self, made: FinishedBackup, **fields: Any) -> None:
        """Write another manifest of a set."""
        manifest: Manifest = made.manifest.model_copy(update=fields)
        (made.directory / manifest_name(manifest.timestamp)).write_bytes(manifest.to_json())


def exported(made: FinishedBackup) -> set[int]:
    """The keys of the rows in the table's data file."""
    with made.path("docs").open(newline="") as file:
        return {int(row["id"]) for row in csv.DictReader(file)}


def keys(made: FinishedBackup) -> dict[str, str]:
    """The timestamp of the set that has the row, by key."""
    (table,) = made.manifest.tables
    assert table.keys is not None
    path = str(made.directory / table.keys.name)
    rows: Iterable[tuple[str, str]] = duckdb.read_parquet(path).project("id, stamp").fetchall()
    return dict(rows)


@pytest.fixture
def chain(database: Database, backup: BackupMaker) -> Chain:
    """A table of 20 rows on PostgreSQL 18."""
    return new_chain(database, backup)


def new_chain(database: Database, backup: BackupMaker) -> Chain:
    database.run(
        """
        CREATE TABLE docs (id int PRIMARY KEY, body text, v vector(2));
        INSERT INTO docs SELECT i, 'text ' || i, ARRAY[i, 1]::vector FROM generate_series(1, %s) i;
        """,
        [ROWS],
    )
    return Chain(database, backup)
