"""Consolidation: a chain becomes a full set that stands for the same rows, from storage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, StorageError
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name
from vector_backup_pipeline.engine.formats.blocks import Content
from vector_backup_pipeline.engine.incremental.chain import Part
from vector_backup_pipeline.engine.incremental.consolidate import consolidate
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import Manifest, TableBackup, read_manifest
from vector_backup_pipeline.engine.results import ConsolidateResult
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_chains import Chain, damaged, make_chain, missing
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_prune import prune_root
from vector_backup_pipeline_tests.fix_restore import TRUNCATING, RestoreMaker, rows_of

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


def _consolidate(
    backup: BackupMaker, timestamp: str = "latest", **options: Any
) -> ConsolidateResult:
    root = BackupRoot(backup.url or str(backup.root), "vector_bak")
    parameters = ConsolidateParameters(timestamp=timestamp)
    return consolidate(parameters, root, run_id="consolidates", **options)


def _new_set(backup: BackupMaker, timestamp: str = "latest") -> str:
    """The timestamp of a new set."""
    result = _consolidate(backup, timestamp)
    assert (result.consolidated, result.errors) == (True, [])
    assert result.set_timestamp is not None
    return result.set_timestamp


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {LOG_NAME}


def _manifest(directory: Path, stamp: str) -> Manifest:
    name = manifest_name(stamp)
    return read_manifest((directory / name).read_bytes(), name)


def _table(manifest: Manifest, name: str) -> TableBackup:
    return next(table for table in manifest.tables if table.name == name)


@pytest.mark.parametrize(
    ("form", "compression"), [("csv", "none"), ("csv", "zstd"), ("binary", "none")]
)
def test_the_new_set_is_full_and_has_the_rows_of_the_chain(
    backup: BackupMaker, restore: RestoreMaker, database: Database, form: str, compression: str
) -> None:
    def back_up(mode: str = "auto") -> FinishedBackup:
        made = backup(database.url, tables=TABLES, mode=mode, format=form, compression=compression)
        assert made.error is None, made.error
        return made

    database.run(_SCHEMA)
    chain = [back_up()]
    for statements in _CHANGES:
        database.run(statements)
        chain.append(back_up())
    directory, old, rows = chain[-1].directory, chain[-1].manifest, rows_of(database)
    before = _names(directory)

    stamp = _new_set(backup)

    new = _manifest(directory, stamp)
    assert (new.builds_on, new.can_be_base, new.complete) == (None, True, True)
    for field in ("created_at", "snapshot", "server", "export_method", "task_id", "dependencies"):
        assert getattr(new, field) == getattr(old, field)
    for name in TABLES:
        theirs, ours = _table(old, name), _table(new, name)
        assert (ours.rows, ours.digest) == (theirs.rows, theirs.digest)
        assert (ours.definition, ours.relations) == (theirs.definition, theirs.relations)
        assert (ours.builds_on, ours.live_rows, ours.full_reason) == (None, None, None)
        assert ours.file is not None
        assert (ours.file.format, ours.file.compression) == (form, compression)
    keys, old_keys = _table(new, "docs").keys, _table(old, "docs").keys
    assert keys is not None and old_keys is not None
    assert keys.scanned_sha256 == old_keys.scanned_sha256 is not None
    with KeyFiles.open(keys.columns) as files:
        content = Content(_table(new, "docs").rows, int(_table(new, "docs").digest or "", 16))
        assert files.contents(directory / keys.name) == {stamp: content}
    assert _table(new, "notes").keys is None
    added = {name for name in _names(directory) if stamp in name}
    assert _names(directory) == before | added
    assert len(added) == len(TABLES) + 2 + 1  # Data files, key files, manifest.

    for name in before:
        (directory / name).unlink()
    database.run("UPDATE docs SET body = 'again' WHERE digest = 'doc 2'")
    following, changed = back_up("incremental"), rows_of(database)
    assert following.manifest.builds_on == stamp
    assert following.file("docs").rows == 1
    for timestamp, expected in ((stamp, rows), ("latest", changed)):
        restore.succeeds(database, timestamp=timestamp, **TRUNCATING)
        assert rows_of(database) == expected


def test_latest_takes_the_new_set_and_the_old_chain_can_be_pruned(
    stored_chain: Chain, backup: BackupMaker, restore: RestoreMaker
) -> None:
    stamp = _new_set(backup)

    pruned = prune_root(backup.root, KeepRules(keep_last=1), dry_run=False)

    assert pruned.error is None
    assert (sorted(pruned.removed), [*pruned.kept]) == (stored_chain.stamps, [stamp])
    restore.succeeds(stored_chain.database, timestamp="latest", **TRUNCATING)
    assert rows_of(stored_chain.database) == stored_chain.rows[-1]


def test_a_set_in_the_middle_of_the_chain_is_consolidated(
    stored_chain: Chain, backup: BackupMaker
) -> None:
    middle = stored_chain.backups[1].manifest

    new = _manifest(stored_chain.directory, _new_set(backup, middle.timestamp))

    assert [t.digest for t in new.tables] == [t.digest for t in middle.tables]
    assert new.created_at == middle.created_at < stored_chain.backups[2].manifest.created_at


def test_a_full_set_is_refused_and_a_shorter_chain_than_asked_for_left(
    stored_chain: Chain, backup: BackupMaker
) -> None:
    before = _names(stored_chain.directory)
    assert not _consolidate(backup, shortest=5).consolidated
    with pytest.raises(InvalidParams, match="is full"):
        _consolidate(backup, stored_chain.stamps[0])
    assert _names(stored_chain.directory) == before
    new = _consolidate(backup, shortest=4).set_timestamp
    with pytest.raises(InvalidParams, match="is full"):
        _consolidate(backup, str(new))


def test_a_damaged_or_missing_file_of_the_chain_is_named_and_nothing_is_written(
    stored_chain: Chain, backup: BackupMaker
) -> None:
    directory, newest = stored_chain.directory, stored_chain.stamps[-1]
    before = _names(directory)
    files = sorted(path for path in directory.iterdir() if path.name.startswith("docs_"))
    assert len(files) == 4 * 2
    for path in files:
        for harm in (damaged, missing):
            with harm(path), pytest.raises(IntegrityError, match=path.name):
                _consolidate(backup, newest)
            assert _names(directory) == before
    assert "FAILED (INTEGRITY_ERROR)" in (directory / LOG_NAME).read_text()


def test_rows_that_differ_from_the_live_ones_are_not_made_a_set(
    stored_chain: Chain, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _names(stored_chain.directory)
    monkeypatch.setattr(Part, "wanted", lambda _, rows: rows[1:])

    with pytest.raises(IntegrityError, match="are not those that were written"):
        _consolidate(backup)

    assert _names(stored_chain.directory) == before


def test_no_file_is_left_if_it_is_not_known_whether_the_manifest_was_written(
    stored_chain: Chain, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = _names(stored_chain.directory), BackupDirectory.replace

    def lose_the_answer(self: BackupDirectory, name: str, data: bytes) -> None:
        write(self, name, data)
        raise StorageError("The connection was lost.")

    monkeypatch.setattr(BackupDirectory, "replace", lose_the_answer)

    with pytest.raises(StorageError, match="was lost"):
        _consolidate(backup)

    assert _names(stored_chain.directory) == before


def test_what_a_killed_consolidation_left_is_removed_by_the_next_which_has_a_section_in_the_log(
    stored_chain: Chain, backup: BackupMaker
) -> None:
    directory = stored_chain.directory
    before = _names(directory)
    dead = "20200101_000000"
    for name in f"docs_{dead}.csv.tmp", f"docs_{dead}.keys.parquet.tmp":
        (directory / name).write_bytes(b"x")

    stamp = _new_set(backup)

    assert {name for name in _names(directory) if stamp not in name} == before
    section = (directory / LOG_NAME).read_text().split("=" * 20)[-1]
    assert f"consolidate {stamp}: SUCCESS" in section
    assert ", ".join(reversed(stored_chain.stamps)) in section
    assert f"docs: 183 rows -> docs_{stamp}.csv" in section


def test_a_chain_in_a_bucket_is_restored_and_consolidated(
    backup: BackupMaker, restore: RestoreMaker, database: Database, bucket: Bucket
) -> None:
    backup.url = restore.url = bucket.url
    chain = make_chain(database, backup, compression="zstd")
    restore.succeeds(database, **TRUNCATING)
    assert rows_of(database) == chain.rows[-1]

    stamp = _new_set(backup)

    for key in bucket.all_keys():
        if any(old in key for old in chain.stamps):
            bucket.client.delete_object(Bucket=bucket.name, Key=key)
    restore.succeeds(database, timestamp=stamp, **TRUNCATING)
    assert rows_of(database) == chain.rows[-1]
