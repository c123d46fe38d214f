"""Which set a caller gets by its timestamp, and which is the latest."""

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.choice import ChosenSet, choose_set
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS
from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter

FIRST, SECOND, THIRD, FOURTH = (f"2025010{day}_000000" for day in (1, 2, 3, 4))
A, B, C = (SourceDatabase("7", name) for name in "abc")


def _write(sets: SetWriter, stamp: str, source: SourceDatabase, **more: Any) -> None:
    more = {"tables": {"docs": 1}, **more}
    sets.write(stamp, database=source.name, server=source.system_identifier, **more)


def _nobody() -> SourceDatabase:
    pytest.fail("the target was asked")


def _choose(
    sets: SetWriter,
    timestamp: str = "latest",
    *tables: str,
    source: str | None = None,
    target: Callable[[], SourceDatabase] | SourceDatabase = _nobody,
) -> ChosenSet:
    ask = (lambda: target) if isinstance(target, SourceDatabase) else target
    return choose_set(sets.directory, timestamp, tables or None, source, ask)


def _chosen(sets: SetWriter, *arguments: str, **more: Any) -> str:
    return _choose(sets, *arguments, **more).backup.stamp


def _refused(sets: SetWriter, kind: type[BackupError], *arguments: str, **more: Any) -> str:
    with pytest.raises(kind) as raised:
        _choose(sets, *arguments, **more)
    return raised.value.message


def test_latest_is_by_creation_and_not_by_name(sets: SetWriter) -> None:
    sets.write(THIRD, created_at=datetime(2025, 1, 1, 12, tzinfo=timezone.utc))
    sets.write(SECOND)

    assert _chosen(sets) == SECOND


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_pair_of_the_older_system_is_a_set_once_adopted(sets: SetWriter, line_end: bytes) -> None:
    sets.older(FIRST, line_end=line_end)

    assert f"vector-backup adopt --timestamp {FIRST}" in _refused(sets, ResourceNotFound, FIRST)
    assert "vector-backup adopt" in _refused(sets, ResourceNotFound)
    sets.adopt()
    assert [_chosen(sets, timestamp) for timestamp in ("latest", FIRST)] == [FIRST, FIRST]


def test_latest_is_never_damaged_incomplete_running_or_orphaned(sets: SetWriter) -> None:
    sets.write(FIRST)
    sets.write("20250201_000000", {COLLECTION: 4}, failed=[EMBEDDING])
    sets.file("vector_backup_20250202_000000.json", b"{")
    sets.older("20250203_000000")
    sets.file("langchain_pg_embedding_20250204_000000.csv")
    sets.file("langchain_pg_embedding_20250205_000000.csv")
    claim = sets.running("20250205_000000")

    assert _chosen(sets) == FIRST
    claim.release()


def test_without_a_usable_set_the_message_says_why(sets: SetWriter) -> None:
    assert "It has no backup sets" in _refused(sets, ResourceNotFound)
    sets.damaged(FIRST)
    sets.damaged(SECOND)
    for source in (None, "d"):
        message = _refused(sets, IntegrityError, source=source)
        assert f"vector_backup_{SECOND}.json is damaged" in message
    sets.write(THIRD, {COLLECTION: 4}, failed=[EMBEDDING])

    message = _refused(sets, ResourceNotFound, "latest", COLLECTION)

    assert str(sets.path) in message
    assert f"newest first: {THIRD}, {SECOND}, {FIRST}." in message


@pytest.mark.parametrize(
    "timestamp", ["", "LATEST", "yesterday", "20250101", "20251301_000000", "../x"]
)
def test_a_malformed_timestamp_is_refused_with_an_example(sets: SetWriter, timestamp: str) -> None:
    message = _refused(sets, InvalidParams, timestamp)

    assert repr(timestamp) in message
    assert DEFAULT_TIMESTAMPS.stamp(DEFAULT_TIMESTAMPS.now())[:8] in message


def test_if_there_is_no_such_set_the_newest_others_are_named(sets: SetWriter) -> None:
    for day in range(1, 9):
        sets.write(f"2025010{day}_000000", {"t": 1})
    sets.file("t_20240101_000000.csv")

    message = _refused(sets, ResourceNotFound, "20240101_000000")

    assert f"no backup set 20240101_000000 in {sets.path}" in message
    newest = ", ".join(f"2025010{day}_000000" for day in (8, 7, 6, 5, 4))
    assert f"newest first: {newest}, …" in message


@pytest.mark.parametrize("end", ["csv", "csv.tmp"])
def test_a_live_runs_files_are_no_set_yet(sets: SetWriter, end: str) -> None:
    sets.file(f"t_{FIRST}.{end}")
    claim = sets.running(FIRST)

    assert "its run is active" in _refused(sets, ResourceNotFound, FIRST, "t")
    claim.release()


def test_a_damaged_set_is_refused_for_what_is_wrong_with_it(sets: SetWriter) -> None:
    sets.write(FIRST)
    manifest = sets.path / f"vector_backup_{FIRST}.json"
    original = manifest.read_text()
    manifest.write_text(original.replace('"rows": 58', '"rows": 59'))
    sets.file(f"vector_backup_{SECOND}.json", original.encode())
    later = json.loads(original) | {"schema_version": 99, "timestamp": THIRD}
    del later["checksum"]
    sets.file(f"vector_backup_{THIRD}.json", json.dumps(later).encode())

    assert "changed after it was written" in _refused(sets, IntegrityError, FIRST)
    assert "renamed or copied" in _refused(sets, IntegrityError, SECOND)
    assert "another version" in _refused(sets, IntegrityError, THIRD)
    sets.write(FOURTH)
    assert _chosen(sets) == FOURTH


def test_an_incomplete_set_is_given_only_table_by_table(sets: SetWriter) -> None:
    sets.write(FIRST, {COLLECTION: 4, "app.docs": 1}, failed=[EMBEDDING])

    assert f"it has only {COLLECTION}, app.docs" in _refused(sets, IntegrityError, FIRST)
    for tables in ([COLLECTION], [f"public.{COLLECTION}", "docs"], ["app.docs"]):
        assert _chosen(sets, FIRST, *tables) == FIRST


@pytest.mark.parametrize("timestamp", ["latest", FIRST])
def test_a_set_that_lost_a_file_is_refused_for_that_table(sets: SetWriter, timestamp: str) -> None:
    sets.write(FIRST)
    (sets.path / f"{EMBEDDING}_{FIRST}.csv").unlink()

    message = _refused(sets, IntegrityError, timestamp)

    assert f"has lost its file {EMBEDDING}_{FIRST}.csv" in message
    assert _chosen(sets, timestamp, COLLECTION) == FIRST


@pytest.mark.parametrize("state", ["done", "pending", "unknown"])
def test_latest_is_refused_when_it_lacks_the_rows_that_an_earlier_run_truncated(
    sets: SetWriter, state: Any
) -> None:
    sets.write(FIRST)
    sets.write(SECOND, truncate=state, truncated=[EMBEDDING])
    sets.write(
        THIRD, {COLLECTION: 4, f"public.{EMBEDDING}": 0}, truncate="done", truncated=[EMBEDDING]
    )

    message = _refused(sets, InvalidParams)

    assert f"the run of {SECOND} truncated that table" in message
    assert f"timestamp {SECOND}" in message
    assert _refused(sets, InvalidParams, "latest", EMBEDDING) == message
    assert _chosen(sets, "latest", COLLECTION) == THIRD
    assert [_chosen(sets, stamp) for stamp in (SECOND, THIRD)] == [SECOND, THIRD]


@pytest.mark.parametrize(
    ("state", "rows_before", "rows_now"),
    [("done", 58, 1), ("none", 58, 0), ("not_truncated", 58, 0), ("done", 0, 0)],
    ids=["refilled", "not asked", "not truncated", "was empty"],
)
def test_latest_is_given_when_no_truncated_rows_are_missing(
    sets: SetWriter, state: Any, rows_before: int, rows_now: int
) -> None:
    sets.write(FIRST, {EMBEDDING: rows_before}, truncate=state, truncated=[EMBEDDING])
    sets.write(SECOND, {EMBEDDING: rows_now, f"app.{EMBEDDING}": 0})
    # A later set's truncate does not matter.
    sets.write(THIRD, {EMBEDDING: 5}, failed=["t"], truncate="done", truncated=[EMBEDDING])

    assert _chosen(sets) == SECOND


def test_a_run_that_ends_while_the_directory_is_listed_leaves_a_set_and_no_orphan(
    sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = sets.running(FIRST)
    sets.file(f"{EMBEDDING}_{FIRST}.csv")
    directory = sets.directory
    is_alive = directory.claim_is_alive

    def ends_now(name: str) -> bool:
        sets.write(FIRST)
        claim.release()
        return is_alive(name)

    monkeypatch.setattr(directory, "claim_is_alive", ends_now)

    assert choose_set(directory, FIRST, None).backup.manifest.complete


def test_of_several_databases_the_target_decides(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B)

    assert [_chosen(sets, target=target) for target in (A, B)] == [FIRST, SECOND]
    for target in (C, SourceDatabase("8", "a"), SourceDatabase(None, "a")):
        message = _refused(sets, InvalidParams, target=target)
        assert "(a, b)" in message
        assert "source_database" in message


def test_the_only_database_is_taken_without_asking_the_target(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, A)
    sets.damaged(THIRD)

    assert _chosen(sets) == SECOND


def test_source_database_is_the_value_that_the_list_shows(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B)

    assert [_chosen(sets, source=text) for text in ("a", "7/a")] == [FIRST, FIRST]
    assert "Databases with sets there: a, b." in _refused(sets, ResourceNotFound, source="c")

    _write(sets, THIRD, SourceDatabase("8", "a"))
    assert [_chosen(sets, source=text) for text in ("8/a", "7/a")] == [THIRD, FIRST]
    assert "7/a, 8/a, b" in _refused(sets, InvalidParams, source="a")


def test_a_database_with_only_incomplete_sets_gets_no_set_of_another(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B, failed=["more"])

    assert "no complete one of the target 7/b" in _refused(sets, InvalidParams, target=B)
    assert _chosen(sets, target=A) == FIRST
    message = _refused(sets, ResourceNotFound, source="b")
    assert "no complete backup set of the database b" in message


def test_latest_is_the_newest_set_that_has_all_tables(sets: SetWriter) -> None:
    _write(sets, FIRST, A, tables={"docs": 1, "app.notes": 1})
    _write(sets, SECOND, A, tables={"docs": 1})
    _write(sets, THIRD, A, tables={"other": 1})
    _write(sets, FOURTH, B, tables={"other": 1})

    assert _chosen(sets, source="a") == THIRD
    assert _chosen(sets, "latest", "docs") == SECOND
    assert _chosen(sets, "latest", "docs", "notes") == FIRST
    assert _chosen(sets, "latest", "app.notes") == FIRST
    message = _refused(sets, ResourceNotFound, "latest", "docs", "other")
    assert "no complete backup set that has docs and other" in message
    message = _refused(sets, ResourceNotFound, "latest", "docs", source="b")
    assert "no complete backup set of the database b that has docs" in message


def test_only_newer_sets_of_the_same_database_are_passed_over(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, A, failed=["more"])
    _write(sets, THIRD, B, failed=["more"])
    sets.damaged(FOURTH)

    choice = _choose(sets, target=A)

    assert (choice.backup.stamp, choice.passed_over) == (FIRST, (SECOND, FOURTH))


def test_a_table_that_another_databases_run_truncated_does_not_matter(sets: SetWriter) -> None:
    _write(sets, FIRST, B, truncate="done", truncated=["docs"])
    _write(sets, SECOND, A, tables={"docs": 0})

    assert _chosen(sets, target=A) == SECOND
    _write(sets, FIRST, A, truncate="done", truncated=["docs"])
    assert FIRST in _refused(sets, InvalidParams)


def test_a_set_is_given_by_its_timestamp_if_it_is_of_the_named_database(sets: SetWriter) -> None:
    _write(sets, FIRST, A)

    assert [_chosen(sets, FIRST, source=text) for text in ("a", "7/a", None)] == [FIRST] * 3
    message = _refused(sets, ResourceNotFound, FIRST, source="b")
    assert "is a backup of the database 7/a, not of 'b'" in message
