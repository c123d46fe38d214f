"""Consolidation: a chain becomes a full set that stands for the same rows, from storage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, InvalidParams
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name
from vector_backup_pipeline.engine.formats.blocks import Content
from vector_backup_pipeline.engine.incremental.chain import Part
from vector_backup_pipeline.engine.incremental.consolidate import consolidate
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import Manifest, TableBackup, read_manifest
from vector_backup_pipeline.engine.results import ConsolidateResult
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS, BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_postgres import Database, create_database, drop_database
from vector_backup_pipeline_tests.fix_prune import prune_root
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of

TABLES = ("docs", "notes", "idle")
_SCHEMA = """
    CREATE TABLE docs (tenant int, digest text, body text, embedding vector(3),
                       PRIMARY KEY (tenant, digest));
    INSERT INTO docs SELECT i % 3, 'doc ' || i, E'line\n"' || i, ARRAY[i, 1, -i]::vector
      FROM generate_series(1, 300) i;
    CREATE TABLE notes (body text);
    INSERT INTO notes VALUES ('a'), (''), (NULL), ('a');
    CREATE TABLE idle (id int PRIMARY KEY);
    INSERT INTO idle SELECT generate_series(1, 5);
"""
_CHANGES = (
    """
    UPDATE docs SET body = body || ' changed' WHERE tenant = 1 AND digest LIKE '%7';
    DELETE FROM docs WHERE digest LIKE '%5';
    INSERT INTO notes VALUES ('b');
    """,
    """
    UPDATE docs SET digest = 'moved' WHERE digest = 'doc 1';
    INSERT INTO docs VALUES (9, 'new', NULL, NULL);
    DELETE FROM docs WHERE digest = 'doc 7';
    """,
)

Chain = tuple[FinishedBackup, ...]


def _back_up(backup: BackupMaker, database: Database, **parameters: Any) -> FinishedBackup:
    values = {"tables": TABLES, "mode": "auto", **parameters}
    done = backup(database.url, **values)
    assert done.error is None, done.error
    return done


def _make_chain(backup: BackupMaker, database: Database, **parameters: Any) -> list[str]:
    """A full set and two incremental ones, oldest first."""
    database.run(_SCHEMA)
    stamps = [_back_up(backup, database, **parameters).stamp]
    for statements in _CHANGES:
        database.run(statements)
        stamps.append(_back_up(backup, database, **parameters).stamp)
    return [stamp for stamp in stamps if stamp is not None]


def _run(
    backup: BackupMaker, timestamp: str = "latest", **options: Any
) -> tuple[ConsolidateResult | None, BackupError | None]:
    root = BackupRoot(backup.url or str(backup.root), "vector_bak")
    parameters = ConsolidateParameters(timestamp=timestamp)
    try:
        return consolidate(parameters, root, TIMESTAMPS, run_id="consolidates", **options), None
    except BackupError as error:
        return None, error


def _consolidate(backup: BackupMaker, **options: Any) -> str:
    """A consolidation that must succeed; the timestamp of the new set."""
    result, error = _run(backup, **options)
    assert error is None, error
    assert result is not None and result.set_timestamp is not None
    assert (result.consolidated, result.errors) == (True, [])
    return result.set_timestamp


def _directory(backup: BackupMaker) -> Path:
    return backup.root / "vector_bak"


def _names(backup: BackupMaker) -> set[str]:
    return {path.name for path in _directory(backup).iterdir()} - {LOG_NAME}


def _manifest(backup: BackupMaker, stamp: str) -> Manifest:
    name = manifest_name(stamp)
    return read_manifest((_directory(backup) / name).read_bytes(), name)


def _table(manifest: Manifest, name: str) -> TableBackup:
    return next(table for table in manifest.tables if table.name == name)


def _restores(restore: RestoreMaker, database: Database, timestamp: str) -> None:
    """Restore the set into an empty database: it must have the rows of `database`."""
    name = f"{database.name}_restored"
    create_database(database.server, name)
    try:
        target = Database(database.server, name)
        restore.succeeds(target, timestamp=timestamp)
        assert rows_of(target) == rows_of(database)
    finally:
        drop_database(database.server, name)


@pytest.mark.parametrize(
    ("form", "compression"), [("csv", "none"), ("csv", "zstd"), ("binary", "none")]
)
def test_the_new_set_is_full_and_has_the_rows_of_the_chain(
    backup: BackupMaker, restore: RestoreMaker, database: Database, form: str, compression: str
) -> None:
    stamps = _make_chain(backup, database, format=form, compression=compression)
    before = _names(backup)

    stamp = _consolidate(backup)

    old, new = _manifest(backup, stamps[-1]), _manifest(backup, stamp)
    assert (new.builds_on, new.can_be_base, new.complete) == (None, True, True)
    for field in ("created_at", "snapshot", "server", "export_method", "task_id", "dependencies"):
        assert getattr(new, field) == getattr(old, field)
    for name in TABLES:
        theirs, ours = _table(old, name), _table(new, name)
        assert (ours.rows, ours.digest) == (theirs.rows, theirs.digest)
        assert (ours.definition, ours.relations) == (theirs.definition, theirs.relations)
        assert (ours.builds_on, ours.live_rows, ours.full_reason) == (None, None, None)
        assert ours.file is not None and theirs.file is not None
        assert (ours.file.format, ours.file.compression) == (form, compression)
    keys, old_keys = _table(new, "docs").keys, _table(old, "docs").keys
    assert keys is not None and old_keys is not None
    assert keys.scanned_sha256 == old_keys.scanned_sha256 is not None
    with KeyFiles.open(keys.columns) as files:
        content = Content(_table(new, "docs").rows, int(_table(new, "docs").digest or "", 16))
        assert files.contents(_directory(backup) / keys.name) == {stamp: content}
    assert _table(new, "notes").keys is None
    added = {name for name in _names(backup) if stamp in name}
    assert _names(backup) == before | added
    assert len(added) == len(TABLES) + 2 + 1  # Data files, key files, manifest.
    for path in [p for p in _directory(backup).iterdir() if any(s in p.name for s in stamps)]:
        path.unlink()
    _restores(restore, database, stamp)


def test_latest_and_the_next_incremental_backup_take_the_new_set(
    backup: BackupMaker, restore: RestoreMaker, database: Database
) -> None:
    _make_chain(backup, database)
    stamp = _consolidate(backup)
    _restores(restore, database, "latest")

    database.run("UPDATE docs SET body = 'again' WHERE digest = 'doc 2'")
    following = _back_up(backup, database, mode="incremental")

    assert following.manifest.builds_on == stamp
    docs = _table(following.manifest, "docs")
    assert docs.builds_on == stamp and docs.file is not None and docs.file.rows == 1
    assert following.stamp is not None
    _restores(restore, database, following.stamp)


def test_the_old_chain_can_be_pruned(
    backup: BackupMaker, restore: RestoreMaker, database: Database
) -> None:
    stamps = _make_chain(backup, database)
    stamp = _consolidate(backup)

    pruned = prune_root(backup.root, KeepRules(keep_last=1), dry_run=False)

    assert pruned.error is None
    assert sorted(pruned.removed) == stamps
    assert [*pruned.kept] == [stamp]
    _restores(restore, database, stamp)


def test_a_set_in_the_middle_of_the_chain_is_consolidated(
    backup: BackupMaker, database: Database
) -> None:
    _, middle, last = _make_chain(backup, database)

    stamp = _consolidate(backup, timestamp=middle)

    old, new = _manifest(backup, middle), _manifest(backup, stamp)
    assert [t.digest for t in new.tables] == [t.digest for t in old.tables]
    assert new.created_at == old.created_at < _manifest(backup, last).created_at


def test_a_set_that_is_full_is_refused(backup: BackupMaker, database: Database) -> None:
    first, _, _ = _make_chain(backup, database)
    for timestamp in first, _consolidate(backup):
        before = _names(backup)
        _, error = _run(backup, timestamp)
        assert isinstance(error, InvalidParams)
        assert "is full" in error.message
        assert _names(backup) == before


def test_a_chain_that_is_shorter_than_asked_for_is_left(
    backup: BackupMaker, database: Database
) -> None:
    _make_chain(backup, database)
    before = _names(backup)

    result, error = _run(backup, shortest=4)

    assert result is not None
    assert (result.consolidated, error, _names(backup)) == (False, None, before)
    assert _consolidate(backup, shortest=3)


def test_a_damaged_or_missing_file_of_the_chain_is_named_and_nothing_is_written(
    backup: BackupMaker, database: Database
) -> None:
    stamps = _make_chain(backup, database)
    before = _names(backup)
    files = [
        name
        for name in sorted(before)
        if name.startswith(("docs_", "idle_")) or name == f"notes_{stamps[-1]}.csv"
    ]
    assert len(files) == 2 * 2 * 3 + 1
    for name in files:
        path = _directory(backup) / name
        data = path.read_bytes()
        for damaged in (data[:-1] + b"?" if data else b"?"), None:
            path.unlink() if damaged is None else path.write_bytes(damaged)
            _, error = _run(backup, stamps[-1])
            assert isinstance(error, IntegrityError), (name, error)
            assert name in error.message
            path.write_bytes(data)
            assert _names(backup) == before
    assert "FAILED (INTEGRITY_ERROR)" in (_directory(backup) / LOG_NAME).read_text()


def test_rows_that_differ_from_the_live_ones_are_not_made_a_set(
    backup: BackupMaker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make_chain(backup, database)
    before = _names(backup)
    monkeypatch.setattr(Part, "wanted", lambda _, rows: rows[1:])

    _, error = _run(backup)

    assert isinstance(error, IntegrityError)
    assert _names(backup) == before


def test_what_a_killed_consolidation_left_is_removed_by_the_next(
    backup: BackupMaker, database: Database
) -> None:
    _make_chain(backup, database)
    before = _names(backup)
    dead = "20200101_000000"
    for name in f"docs_{dead}.csv.tmp", f"docs_{dead}.keys.parquet.tmp":
        (_directory(backup) / name).write_bytes(b"x")

    stamp = _consolidate(backup)

    assert {name for name in _names(backup) if stamp not in name} == before


def test_the_log_has_a_section(backup: BackupMaker, database: Database) -> None:
    stamps = _make_chain(backup, database)
    stamp = _consolidate(backup)

    section = (_directory(backup) / LOG_NAME).read_text().split("=" * 20)[-1]

    assert f"consolidate {stamp}: SUCCESS" in section
    assert ", ".join(reversed(stamps)) in section
    assert f"notes: 5 rows -> notes_{stamp}.csv" in section


def test_a_chain_in_a_bucket(
    backup: BackupMaker, restore: RestoreMaker, database: Database, bucket: Bucket
) -> None:
    backup.url = restore.url = bucket.url
    stamps = _make_chain(backup, database, compression="zstd")
    stamp = _consolidate(backup)
    for key in bucket.all_keys():
        if any(old in key for old in stamps):
            bucket.client.delete_object(Bucket=bucket.name, Key=key)
    _restores(restore, database, stamp)
