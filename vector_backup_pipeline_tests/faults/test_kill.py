"""A killed run loses no row, and leaves no false claims."""

from pathlib import Path

import pytest

from vector_backup_pipeline.engine.manifest import Manifest, read_manifest
from vector_backup_pipeline_tests.faults.stopped import BACKUP_STEPS, stopped
from vector_backup_pipeline_tests.faults.watching import (
    EMBEDDINGS,
    count,
    ids,
    ids_in,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database

_ROWS = 4000
_MORE_ROWS = f"""
    INSERT INTO langchain_pg_embedding (id, embedding, document)
        SELECT 'more-' || i, ARRAY[i, 0, 1]::vector, repeat(md5(i::text), 8)
          FROM generate_series(1, {_ROWS - 58}) i
"""  # noqa: S608 - a number of this test's own
STEPS = tuple(BACKUP_STEPS)
_WITHOUT_MANIFEST = STEPS[: STEPS.index("pending manifest written")]
_WITH_ROWS_IN_THE_TABLE = STEPS[: STEPS.index("after the commit")]


@pytest.fixture
def filled(langchain: Database) -> Database:
    langchain.run(_MORE_ROWS)
    return langchain


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_every_row_is_in_the_table_or_in_a_set(
    filled: Database, backup: BackupMaker, step: str
) -> None:
    before = ids(filled)
    with stopped("backup", backup.root, step, filled):
        names = _names(backup)

    wait_until_nothing_is_open(filled)
    assert _names(backup) == names
    manifest = _manifest(backup)
    assert (manifest is None) == (step in _WITHOUT_MANIFEST)
    if manifest is not None:
        assert manifest.complete
        assert manifest.truncate == ("done" if step == "outcome written" else "pending")
        assert _saved(backup) == before
    assert ids(filled) == (before if step in _WITH_ROWS_IN_THE_TABLE else set())
    if step == "exporting":
        assert not [name for name in names if name.endswith(".csv")]

    # The next run cleans up.
    assert (step == "outcome written") or any(name.endswith(".run") for name in names)
    made = backup(filled.url, tables=(EMBEDDINGS,))
    assert made.error is None
    assert not [name for name in made.names if name.endswith((".tmp", ".run"))]
    assert len(ids_in(made.path(EMBEDDINGS))) == count(filled)


def _directory(backup: BackupMaker) -> Path:
    return backup.root / "vector_bak"


def _names(backup: BackupMaker) -> list[str]:
    directory = _directory(backup)
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _manifest(backup: BackupMaker) -> Manifest | None:
    manifests = [name for name in _names(backup) if name.endswith(".json")]
    if not manifests:
        return None
    (name,) = manifests
    return read_manifest((_directory(backup) / name).read_bytes(), name)


def _saved(backup: BackupMaker) -> set[str]:
    """The rows of the only backup set, read through its manifest."""
    manifest = _manifest(backup)
    assert manifest is not None
    (table,) = manifest.tables
    assert table.file is not None
    saved = ids_in(_directory(backup) / table.file.name)
    assert len(saved) == len(set(saved)) == table.file.rows
    return set(saved)
