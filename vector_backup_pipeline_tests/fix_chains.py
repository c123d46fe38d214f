"""A table that changes, and a chain of backups of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.catalog.contents import read_contents
from vector_backup_pipeline.engine.catalog.stored_sets import stored_sets
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database, database_like
from vector_backup_pipeline_tests.fix_restore import rows_of

# Between two sets each of these changes some rows; the last one takes a row back to what it was.
CHANGES = (
    "UPDATE docs SET body = body || 'changed' WHERE id % 10 = 1",
    "DELETE FROM docs WHERE id % 10 = 2; INSERT INTO docs VALUES (1000, E'new\nline', '[9,9]')",
    """
    UPDATE docs SET body = replace(body, 'changed', '') WHERE id = 1;
    UPDATE docs SET id = 2000 WHERE id = 3;
    """,
)
_TABLE = r"""
    CREATE TABLE docs (id integer PRIMARY KEY, body text, embedding vector(2));
    INSERT INTO docs SELECT i, E'say "' || i || E'",\nline', '[1,2]' FROM generate_series(1, 200) i;
    INSERT INTO docs VALUES (500, NULL, NULL), (501, '', '[0,0]');
"""


_FORMS = {
    "csv": {"format": "csv", "compression": "none"},
    "binary": {"format": "binary", "compression": "zstd"},
}
# A block of few rows, and many blocks.
_SMALL_BLOCKS = {"BLOCK_BYTES": 500, "INDEX_BYTES": 1000}


@dataclass
class Chain:
    """The sets, oldest first, and what the database had in it when each was made.

    `database` is the test's own; more sets of the same database can be made of `source`.
    """

    source: Database
    database: Database
    backups: list[FinishedBackup] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    @property
    def stamps(self) -> list[str]:
        return [str(backup.stamp) for backup in self.backups]

    @property
    def directory(self) -> Path:
        return self.backups[0].directory


def make_chain(database: Database, backup: BackupMaker, **parameters: Any) -> Chain:
    """Make a chain of four sets of the table `docs`."""
    chain = Chain(database, database)
    database.run(_TABLE)
    for change in ("SELECT", *CHANGES):
        database.run(change)
        made = backup(database.url, tables=("docs",), truncate_tables=(), mode="auto", **parameters)
        assert made.error is None, made.error
        chain.backups.append(made)
        chain.rows.append(rows_of(database))
    directory = BackupRoot(backup.url or str(backup.root), "vector_bak").open(None)
    sets = stored_sets(read_contents(directory), with_verdicts=False)
    assert [s.builds_on for s in reversed(sets)] == [None, *chain.stamps[:3]]
    return chain


@pytest.fixture(scope="session")
def shared_chains(
    server18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Chain]]:
    """One chain for each format, to copy: its files have many blocks."""
    with ExitStack() as databases:

        @cache
        def chain(format_: str) -> Chain:
            database = databases.enter_context(database_like(server18))
            backup = BackupMaker(tmp_path_factory.mktemp("chain"))
            with pytest.MonkeyPatch.context() as patch:
                for name, size in _SMALL_BLOCKS.items():
                    patch.setattr(f"vector_backup_pipeline.engine.formats.blocks.{name}", size)
                return make_chain(database, backup, **_FORMS[format_])

        yield chain


@pytest.fixture
def stored_chain(
    request: pytest.FixtureRequest,
    shared_chains: Callable[[str], Chain],
    backup: BackupMaker,
) -> Iterator[Chain]:
    """The test's own copy of a chain and of its database; CSV without a parameter."""
    shared = shared_chains(getattr(request, "param", "csv"))
    directory = backup.root / shared.directory.name
    shutil.copytree(shared.directory, directory)
    backups = [replace(made, directory=directory) for made in shared.backups]
    with database_like(shared.database.server, shared.database.name) as database:
        yield replace(shared, database=database, backups=backups)


in_both_formats = pytest.mark.parametrize("stored_chain", _FORMS, indirect=True)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """In the block, a byte in the middle of the file is another one."""
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    yield
    path.write_bytes(data)


@contextmanager
def missing(path: Path) -> Iterator[None]:
    away = path.with_name("away")
    path.rename(away)
    yield
    away.rename(path)
