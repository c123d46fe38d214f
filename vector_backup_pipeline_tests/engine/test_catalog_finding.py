"""Which set a caller gets by its timestamp, and which is the latest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from vector_backup_pipeline.engine.catalog.contents import DamagedSet, ManifestSet
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import (
    COLLECTION,
    EMBEDDING,
    TABLES,
    SetWriter,
    find_set,
    read_sets,
)

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"


@pytest.fixture
def sets(tmp_path: Path) -> SetWriter:
    writer = SetWriter(tmp_path / "vector_bak")
    writer.path.mkdir()
    return writer


def _found(sets: SetWriter, timestamp: str, tables: Sequence[str] | None = None) -> str:
    return find_set(sets.directory, TIMESTAMPS, timestamp, tables).stamp


def _refused(
    sets: SetWriter, kind: type[BackupError], timestamp: str, tables: Sequence[str] | None = None
) -> str:
    with pytest.raises(kind) as raised:
        find_set(sets.directory, TIMESTAMPS, timestamp, tables)
    return raised.value.message


def test_a_set_that_a_run_made_is_found(langchain: Database, backup: BackupMaker) -> None:
    made = backup(langchain.url)
    sets = SetWriter(made.directory)

    for timestamp in (made.stamp or "", "latest"):
        found = find_set(sets.directory, TIMESTAMPS, timestamp, None)
        assert isinstance(found, ManifestSet)
        assert found.manifest == made.manifest
        assert found.created_at.utcoffset() == datetime.now(timezone.utc).utcoffset()


def test_sets_are_read_oldest_first_by_their_creation_in_utc(sets: SetWriter) -> None:
    sets.write(THIRD, created_at=datetime(2025, 1, 1, 12, tzinfo=timezone.utc))
    sets.write(FIRST)
    sets.older(SECOND)
    sets.adopt()
    sets.file("vector_backup_20250104_000000.json", b"{")

    read = read_sets(sets.directory, TIMESTAMPS)

    assert [each.stamp for each in read] == [FIRST, THIRD, SECOND, "20250104_000000"]
    assert [type(each) for each in read] == [ManifestSet, ManifestSet, ManifestSet, DamagedSet]


def test_a_set_knows_its_files_and_whether_it_is_complete(sets: SetWriter) -> None:
    sets.older(FIRST)
    sets.adopt()
    sets.write(THIRD, {"t": 1}, failed=["u"])

    adopted, failed = read_sets(sets.directory, TIMESTAMPS)

    assert isinstance(adopted, ManifestSet)
    files = {table.name: table.file.name for table in adopted.manifest.tables if table.file}
    assert files == {table: f"{table}_{FIRST}.csv" for table in TABLES}
    assert [each.complete for each in (adopted, failed)] == [True, False]


def test_an_adopted_sets_stamp_is_in_the_time_zone_of_the_settings(sets: SetWriter) -> None:
    shanghai = TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, ZoneInfo("Asia/Shanghai"))
    sets.older("20250721_234914")
    sets.adopt(shanghai)

    (found,) = read_sets(sets.directory, shanghai)

    assert found.created_at == datetime(2025, 7, 21, 15, 49, 14, tzinfo=timezone.utc)


def test_latest_goes_by_creation_and_not_by_name(sets: SetWriter) -> None:
    sets.write(THIRD, created_at=datetime(2025, 1, 1, 12, tzinfo=timezone.utc))
    sets.write(SECOND)

    assert _found(sets, "latest") == SECOND


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_pair_of_the_older_system_is_a_set_once_adopted(sets: SetWriter, line_end: bytes) -> None:
    sets.older(FIRST, line_end=line_end)

    message = _refused(sets, ResourceNotFound, FIRST)
    assert f"vector-backup adopt --timestamp {FIRST}" in message
    assert "vector-backup adopt" in _refused(sets, ResourceNotFound, "latest")
    sets.adopt()
    assert [_found(sets, timestamp) for timestamp in ("latest", FIRST)] == [FIRST, FIRST]


def test_latest_is_never_damaged_incomplete_running_or_left_over(sets: SetWriter) -> None:
    sets.write(FIRST)
    sets.write("20250201_000000", {COLLECTION: 4}, failed=[EMBEDDING])
    sets.file("vector_backup_20250202_000000.json", b"{")
    sets.older("20250203_000000")
    sets.file("langchain_pg_embedding_20250204_000000.csv")
    sets.file("langchain_pg_embedding_20250205_000000.csv")
    claim = sets.running("20250205_000000")

    assert _found(sets, "latest") == FIRST
    claim.release()


def test_where_all_sets_are_damaged_latest_says_what_is_wrong_with_the_newest(
    sets: SetWriter,
) -> None:
    sets.damaged(FIRST)
    sets.damaged(SECOND)

    assert f"vector_backup_{SECOND}.json is damaged" in _refused(sets, IntegrityError, "latest")


def test_without_a_complete_set_there_is_no_latest(sets: SetWriter) -> None:
    assert "It has no backup sets" in _refused(sets, ResourceNotFound, "latest")
    sets.write(FIRST, {COLLECTION: 4}, failed=[EMBEDDING])

    told = _refused(sets, ResourceNotFound, "latest", [COLLECTION])

    assert str(sets.path) in told
    assert f"newest first: {FIRST}." in told


@pytest.mark.parametrize(
    "timestamp", ["", "LATEST", "yesterday", "20250101", "20251301_000000", "../x"]
)
def test_a_malformed_timestamp_is_refused_with_an_example(sets: SetWriter, timestamp: str) -> None:
    told = _refused(sets, InvalidParams, timestamp)

    assert repr(timestamp) in told
    assert TIMESTAMPS.stamp(TIMESTAMPS.now())[:8] in told


def test_of_a_set_that_is_not_there_the_newest_others_are_named(sets: SetWriter) -> None:
    for day in range(1, 9):
        sets.write(f"2025010{day}_000000", {"t": 1})

    told = _refused(sets, ResourceNotFound, "20240101_000000")

    assert f"no backup set 20240101_000000 in {sets.path}" in told
    newest = ", ".join(f"2025010{day}_000000" for day in (8, 7, 6, 5, 4))
    assert f"newest first: {newest}, …" in told


@pytest.mark.parametrize("end", ["csv", "csv.tmp"])
def test_a_live_runs_files_are_no_set_yet(sets: SetWriter, end: str) -> None:
    sets.file(f"t_{FIRST}.{end}")
    claim = sets.running(FIRST)

    assert "its run is active" in _refused(sets, ResourceNotFound, FIRST, ["t"])
    claim.release()


def test_an_orphan_is_no_set(sets: SetWriter) -> None:
    sets.file(f"t_{FIRST}.csv")

    told = _refused(sets, ResourceNotFound, FIRST, ["t"])

    assert f"There is no backup set {FIRST}" in told


def test_a_damaged_set_is_refused_for_what_is_wrong_with_it(sets: SetWriter) -> None:
    sets.write(FIRST)
    manifest = sets.path / f"vector_backup_{FIRST}.json"
    manifest.write_text(manifest.read_text().replace('"rows": 58', '"rows": 59'))

    assert "changed after it was written" in _refused(sets, IntegrityError, FIRST)


def test_a_copy_of_a_manifest_does_not_claim_the_files_of_its_set(sets: SetWriter) -> None:
    sets.write(FIRST)
    original = sets.path / f"vector_backup_{FIRST}.json"
    (sets.path / f"vector_backup_{SECOND}.json").write_bytes(original.read_bytes())

    assert "renamed or copied" in _refused(sets, IntegrityError, SECOND)
    assert _found(sets, "latest") == FIRST


def test_an_incomplete_set_is_given_only_table_by_table(sets: SetWriter) -> None:
    sets.write(FIRST, {COLLECTION: 4, "app.docs": 1}, failed=[EMBEDDING])

    for tables in (None, ()):
        told = _refused(sets, IntegrityError, FIRST, tables)
        assert f"it has only {COLLECTION}, app.docs" in told
    for named in ([COLLECTION], [f"public.{COLLECTION}", "docs"], ["app.docs"]):
        assert _found(sets, FIRST, named) == FIRST


@pytest.mark.parametrize("timestamp", ["latest", FIRST])
def test_a_set_that_lost_a_file_is_refused_for_that_table(sets: SetWriter, timestamp: str) -> None:
    sets.write(FIRST)
    (sets.path / f"{EMBEDDING}_{FIRST}.csv").unlink()

    told = _refused(sets, IntegrityError, timestamp)

    assert f"has lost its file {EMBEDDING}_{FIRST}.csv" in told
    assert _found(sets, timestamp, [COLLECTION]) == FIRST


@pytest.mark.parametrize("state", ["done", "pending", "unknown"])
def test_latest_is_refused_when_it_lacks_the_rows_that_an_earlier_run_removed(
    sets: SetWriter, state: str
) -> None:
    sets.write(FIRST)
    sets.write(SECOND, truncate=state, truncated=[EMBEDDING])  # type: ignore[arg-type]
    sets.write(THIRD, {COLLECTION: 4, EMBEDDING: 0}, truncate="done", truncated=[EMBEDDING])

    told = _refused(sets, InvalidParams, "latest")

    assert f"the run of {SECOND} truncated that table" in told
    assert f"timestamp {SECOND}" in told
    assert _refused(sets, InvalidParams, "latest", [EMBEDDING]) == told
    assert _found(sets, "latest", [COLLECTION]) == THIRD
    assert _found(sets, THIRD) == THIRD
    assert _found(sets, SECOND) == SECOND


def test_the_table_is_the_same_however_it_was_spelled(sets: SetWriter) -> None:
    sets.write(FIRST, {"t": 5}, truncate="done", truncated=["t"])
    sets.write(SECOND, {"public.t": 0, "app.t": 0})

    assert FIRST in _refused(sets, InvalidParams, "latest", ["public.t"])
    assert _found(sets, "latest", ["app.t"]) == SECOND


@pytest.mark.parametrize(
    ("state", "rows_before", "rows_now"),
    [("done", 58, 1), ("none", 58, 0), ("not_truncated", 58, 0), ("done", 0, 0)],
    ids=["refilled", "not asked", "not truncated", "was empty"],
)
def test_latest_is_given_when_nothing_was_removed_that_it_lacks(
    sets: SetWriter, state: str, rows_before: int, rows_now: int
) -> None:
    before, now = ({COLLECTION: 4, EMBEDDING: rows} for rows in (rows_before, rows_now))
    sets.write(FIRST, before, truncate=state, truncated=[EMBEDDING])  # type: ignore[arg-type]
    sets.write(SECOND, now)

    assert _found(sets, "latest") == SECOND


def test_a_later_truncate_says_nothing_of_the_latest_set(sets: SetWriter) -> None:
    sets.write(FIRST, {COLLECTION: 4, EMBEDDING: 0})
    sets.write(SECOND, {EMBEDDING: 5}, failed=[COLLECTION], truncate="done", truncated=[EMBEDDING])

    assert _found(sets, "latest") == FIRST


def test_a_run_that_ends_while_the_catalog_looks_is_a_set_and_no_orphan(
    sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = sets.running(FIRST)
    sets.file(f"{EMBEDDING}_{FIRST}.csv")
    directory = sets.directory
    look = directory.claim_is_alive

    def ends_now(name: str) -> bool:
        sets.write(FIRST)
        claim.release()
        return look(name)

    monkeypatch.setattr(directory, "claim_is_alive", ends_now)

    assert find_set(directory, TIMESTAMPS, FIRST, None).complete


def test_manifests_of_a_later_version_do_not_hide_the_others(sets: SetWriter) -> None:
    sets.write(FIRST)
    later = json.loads((sets.path / f"vector_backup_{FIRST}.json").read_text())
    del later["checksum"]
    later |= {"schema_version": 2, "timestamp": SECOND}
    sets.file(f"vector_backup_{SECOND}.json", json.dumps(later).encode())

    assert _found(sets, "latest") == FIRST
    assert "another version" in _refused(sets, IntegrityError, SECOND)
