"""A table that changes, and a chain of backups of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.contents import read_contents
from vector_backup_pipeline.engine.catalog.stored_sets import sets_without_verdicts
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS, BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database
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


@dataclass
class Chain:
    """The sets, oldest first, and what the database had in it when each was made."""

    backups: list[FinishedBackup] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    @property
    def stamps(self) -> list[str]:
        return [str(backup.stamp) for backup in self.backups]

    @property
    def directory(self) -> Path:
        return self.backups[0].directory


ChainMaker = Callable[..., Chain]


@pytest.fixture
def make_chain(database: Database, backup: BackupMaker) -> ChainMaker:
    """Makes a chain of four sets of the table `docs` of `database`."""

    def make(**parameters: Any) -> Chain:
        chain = Chain()
        database.run(_TABLE)
        for change in ("", *CHANGES):
            if change:
                database.run(change)
            made = backup(
                database.url, tables=("docs",), truncate_tables=(), mode="auto", **parameters
            )
            assert made.error is None, made.error
            chain.backups.append(made)
            chain.rows.append(rows_of(database))
        directory = BackupRoot(backup.url or str(backup.root), "vector_bak").open(None)
        sets = sets_without_verdicts(read_contents(directory, TIMESTAMPS))
        assert [s.builds_on for s in reversed(sets)] == [None, *chain.stamps[:3]]
        return chain

    return make
