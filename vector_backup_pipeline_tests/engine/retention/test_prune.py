"""A prune of a real directory: what is removed and kept, and that nothing else changes."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.claims import claim_reading, remove_leftovers
from vector_backup_pipeline.engine.catalog.contents import has_backup
from vector_backup_pipeline.engine.catalog.locations import find_locations, list_backups
from vector_backup_pipeline.engine.errors import (
    InvalidParams,
    LockTimeout,
    MissingRequiredParams,
    ResourceNotFound,
    StorageError,
)
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    PRUNE_MARKER,
    manifest_name,
    tombstone_name,
)
from vector_backup_pipeline.engine.results import EndedUpload
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS
from vector_backup_pipeline.terminal import prune_summary
from vector_backup_pipeline_tests.faults.object_proxy import Fault, ObjectProxy
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_prune import Prune, prune_root, stopped_at
from vector_backup_pipeline_tests.fix_sets import EMBEDDING, SetWriter, find_set, read_sets

FIRST, SECOND, THIRD = "20260101_020000", "20260102_020000", "20260103_020000"


def names(sets: SetWriter) -> set[str]:
    return set(sets.directory.names()) - {"vector_backup_log.txt"}


def test_a_set_goes_with_its_manifest_its_verdict_and_its_files(
    sets: SetWriter, prune: Prune
) -> None:
    sets.write(SECOND, {"a": 3})
    left = names(sets)
    sets.write(FIRST, {"a": 3})
    sets.verdict(FIRST, files_passed=False)
    size = sum((sets.path / name).stat().st_size for name in names(sets) - left)

    done = prune()

    assert names(sets) == left
    (removed,) = done.location.removed
    assert removed.files == [
        f"vector_backup_{FIRST}.json",
        f"vector_backup_{FIRST}.verified.json",
        f"a_{FIRST}.csv",
    ]
    assert (removed.bytes, done.result.bytes_freed) == (size, size)
    assert done.result.pruned
    assert done.error is None


def test_a_log_that_cannot_be_written_is_a_notice(two: SetWriter, prune: Prune) -> None:
    (two.path / LOG_NAME).mkdir()

    done = prune()

    assert (done.removed, done.result.pruned, done.error) == ([FIRST], True, None)
    assert done.result.notices[0].startswith("The log was not written: ")


def test_what_is_not_known_is_left_alone(two: SetWriter, prune: Prune) -> None:
    foreign = {
        "notes.txt",
        f"{EMBEDDING}_{FIRST}.csv.bak",
        f"{EMBEDDING}.csv",
        f"vector_backup_{FIRST}.json.bak",
        f"other_{FIRST}.csv",
        f".vector_backup_{FIRST}.other",
        "orphan_20250101_000000.csv",
    }
    for name in foreign:
        two.file(name)

    done = prune()

    assert done.removed == [FIRST]
    assert foreign <= names(two)
    assert {(file.file, file.state) for file in done.location.other_files} == {
        (f"other_{FIRST}.csv", "orphan"),
        ("orphan_20250101_000000.csv", "orphan"),
    }


def test_each_location_is_pruned_separately(tmp_path: Path, sets: SetWriter, prune: Prune) -> None:
    tasks = [SetWriter(tmp_path / task / "vector_bak") for task in ("task_1", "task_2")]
    for location in (sets, *tasks):
        location.write(FIRST)
        location.write(SECOND)

    of_task = prune(task_id="task_1")
    of_root = prune(global_only=True)
    of_all = prune()

    assert [location.task_id for location in of_task.result.locations] == ["task_1"]
    assert (of_task.removed, of_root.removed) == ([FIRST], [FIRST])
    assert [len(location.removed) for location in of_all.result.locations] == [0, 0, 1]
    for location in (sets, *tasks):
        assert manifest_name(SECOND) in names(location)


def test_orphans_are_removed_only_on_request_and_adoptable_pairs_never(
    sets: SetWriter, prune: Prune
) -> None:
    sets.file("a_20250101_000000.csv")
    sets.older("20250102_000000")
    sets.older("20250103_000000", line_end=b"\n")
    sets.older("20250104_000000", {EMBEDDING: 1})
    sets.file(f"a_{SECOND}.csv")
    run = sets.running(SECOND)
    sets.file("a_20250105_000000.csv")
    sets.damaged(THIRD, '{"name": "a_20250105_000000.csv"')
    assert prune(include_orphans=True).removed == []  # There is no good set.
    sets.write(FIRST)

    assert prune().removed == []
    done = prune(include_orphans=True)
    run.release()

    assert done.removed == ["20250101_000000", "20250104_000000"]
    states = [file.state for file in done.location.other_files]
    assert sorted(states) == ["adoptable"] * 4 + ["orphan", "running"]


def test_a_file_that_another_set_names_stays_with_that_set(sets: SetWriter, prune: Prune) -> None:
    manifest = sets.write(FIRST, {"a": 1})
    copied = manifest.model_copy(update={"timestamp": THIRD, "checksum": None})
    sets.file(manifest_name(THIRD), copied.to_json())
    sets.write(SECOND, {"a": 1})

    assert prune(KeepRules(keep_last=2)).removed == [FIRST]
    assert f"a_{FIRST}.csv" in names(sets)
    assert prune(KeepRules(keep_last=2)).kept.keys() == {SECOND, THIRD}


def test_a_manifest_that_names_what_is_no_data_file_gives_no_right_to_it(
    sets: SetWriter, prune: Prune
) -> None:
    manifest = sets.write(FIRST, {"a": 1})
    table = manifest.tables[0]
    assert table.file is not None
    foreign = table.model_copy(update={"file": table.file.model_copy(update={"name": "notes.txt"})})
    sets.file(manifest_name(FIRST), manifest.model_copy(update={"tables": [foreign]}).to_json())
    sets.file("notes.txt")
    sets.write(SECOND, {"a": 1})
    assert prune().removed == [FIRST]
    assert "notes.txt" in names(sets)


def test_a_reader_that_comes_between_the_judgement_and_the_tombstone_is_seen(
    two: SetWriter, prune: Prune, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = BackupDirectory.replace
    readers, written = ExitStack(), []

    def with_a_reader_first(directory: BackupDirectory, name: str, data: bytes) -> None:
        readers.enter_context(claim_reading(directory, FIRST, "restore", []))
        written.append(name)
        replace(directory, name, data)

    monkeypatch.setattr(BackupDirectory, "replace", with_a_reader_first)
    with readers:
        done = prune()
    monkeypatch.undo()

    assert done.kept[FIRST] == "a restore or a verification is reading it"
    assert written == [tombstone_name(FIRST)]
    assert not [name for name in names(two) if "tombstone" in name]
    assert find_set(two.directory, FIRST).manifest.complete


def test_when_the_newest_good_set_disappears_the_rules_apply_again(
    sets: SetWriter, prune: Prune, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stamp in (FIRST, SECOND, THIRD):
        sets.write(stamp)
    claim = BackupDirectory.replace

    def and_somebody_removes_the_newest(directory: BackupDirectory, name: str, data: bytes) -> None:
        claim(directory, name, data)
        directory.delete(manifest_name(THIRD))

    monkeypatch.setattr(BackupDirectory, "replace", and_somebody_removes_the_newest)
    done = prune()

    assert (done.error, done.removed) == (None, [FIRST])
    assert done.kept == {SECOND: "one of the last 1; newest good set"}
    assert manifest_name(SECOND) in names(sets)


def test_a_set_whose_removal_had_not_begun_is_a_set_again_and_the_rules_apply_again(
    two: SetWriter, prune: Prune
) -> None:
    with stopped_at(1):
        prune()
    two.file(f"{tombstone_name(THIRD)}.tmp")
    remove_leftovers(two.directory)
    assert tombstone_name(FIRST) in names(two)
    # The newer set, which allowed the removal of the old one, is lost meanwhile.
    (two.path / manifest_name(SECOND)).unlink()

    planned = prune(dry_run=True)
    done = prune()

    assert done.location == planned.location
    assert done.kept == {FIRST: "one of the last 1; newest good set"}
    assert find_set(two.directory, "latest").stamp == FIRST
    assert not [name for name in names(two) if "tombstone" in name]


@pytest.mark.parametrize("is_adopted", [False, True])
def test_beside_its_tombstone_a_set_is_none(sets: SetWriter, *, is_adopted: bool) -> None:
    if is_adopted:
        sets.older(FIRST)
        sets.adopt()
    else:
        sets.write(FIRST)
    sets.file(tombstone_name(FIRST))
    assert not has_backup(sets.directory)
    assert read_sets(sets.directory) == []
    with pytest.raises(ResourceNotFound, match="is being removed by a prune"):
        find_set(sets.directory, FIRST)


def test_an_unreadable_tombstone_is_reported_and_removes_nothing(
    sets: SetWriter, prune: Prune
) -> None:
    sets.write(SECOND)
    sets.file(f"{EMBEDDING}_{FIRST}.csv")
    sets.file(tombstone_name(FIRST), b"{")
    before = names(sets)
    done = prune(include_orphans=True)
    assert done.result.errors[0].startswith(f"{sets.path}: INTEGRITY_ERROR: The tombstone ")
    assert names(sets) == before


def test_only_one_prune_works_in_a_place(two: SetWriter, prune: Prune) -> None:
    other = two.directory.claim(PRUNE_MARKER, "r")
    assert other is not None
    before = names(two)

    done = prune()

    assert isinstance(done.error, LockTimeout)
    assert done.error.can_retry
    assert names(two) == before
    other.release()
    two.file(PRUNE_MARKER, b"")  # The marker of a dead prune.
    os.utime(two.path / PRUNE_MARKER, (0, 0))
    assert prune().removed == [FIRST]
    assert PRUNE_MARKER not in names(two)


def test_the_report_names_each_sets_source_database_and_why(sets: SetWriter, prune: Prune) -> None:
    for stamp, server in ((FIRST, "7"), (SECOND, "7"), (THIRD, "8")):
        sets.write(stamp, database="rag", server=server)
    sets.damaged("20260104_020000")

    done = prune()

    assert {backup.timestamp: backup.source_database for backup in done.location.kept} == {
        SECOND: "7/rag",
        THIRD: "8/rag",
        "20260104_020000": None,
    }
    assert [backup.source_database for backup in done.location.removed] == ["7/rag"]
    log = (sets.path / LOG_NAME).read_text()
    assert "prune: SUCCESS" in log
    assert "Rules: keep_last 1" in log
    for text in (log, "\n".join(prune_summary(done.result))):
        assert f"  keep      {THIRD}  8/rag  one of the last 1; newest good set" in text
        assert f"  removed   {FIRST}  7/rag  no rule keeps it (3 files, " in text
    prune()
    assert (sets.path / LOG_NAME).read_text() == log


def test_an_error_in_one_location_does_not_stop_the_others(
    tmp_path: Path, sets: SetWriter, prune: Prune, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = SetWriter(tmp_path / "task_1" / "vector_bak")
    for location in (sets, task):
        location.write(FIRST)
        location.write(SECOND)
    delete = BackupDirectory.delete

    def failing(directory: BackupDirectory, name: str) -> None:
        if directory.location == str(sets.path):
            raise StorageError("no luck")
        delete(directory, name)

    monkeypatch.setattr(BackupDirectory, "delete", failing)
    done = prune()

    of_root, of_task = done.result.locations
    assert of_root.errors == ["STORAGE_ERROR: no luck"]
    assert [kept.timestamp for kept in of_root.kept] == [SECOND, FIRST]
    assert [removed.timestamp for removed in of_task.removed] == [FIRST]
    assert done.result.errors == [f"{sets.path}: STORAGE_ERROR: no luck"]
    assert not done.result.pruned


@pytest.mark.parametrize("restricted", [{"task_id": "task_1"}, {"global_only": True}])
def test_abandoned_uploads_are_ended_once_and_only_by_a_prune_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restricted: dict[str, Any]
) -> None:
    (tmp_path / "task_1" / "vector_bak").mkdir(parents=True)
    upload = EndedUpload(
        location="s3://bucket/a.csv", started_at=DEFAULT_TIMESTAMPS.now(), size=None
    )
    calls: list[bool] = []

    def abandoned(_: BackupRoot, *, dry_run: bool) -> list[EndedUpload]:
        calls.append(dry_run)
        return [upload]

    monkeypatch.setattr(BackupRoot, "abort_abandoned_uploads", abandoned)
    prune_root(tmp_path, **restricted)
    planned = prune_root(tmp_path, dry_run=True)
    prune_root(tmp_path)
    assert calls == [True, False]
    assert [upload.location for upload in planned.result.abandoned_uploads] == ["s3://bucket/a.csv"]


def test_a_store_that_cannot_list_unfinished_uploads_gives_a_notice(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    bucket.put("vector_bak/notes.txt")
    object_proxy.does(Fault(status=501), to=lambda request: "?uploads" in request)
    planned = prune_root(bucket.url)
    assert planned.error is None
    (notice,) = planned.result.notices
    assert "list the unfinished uploads" in notice
    assert "lifecycle rule" in notice
    assert any(notice in line for line in prune_summary(planned.result))


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceNotFound, match="VECTOR_BACKUP_ROOT"):
        prune_root(tmp_path / "mistyped")


def test_a_prune_without_rules_is_refused(prune: Prune) -> None:
    with pytest.raises(MissingRequiredParams, match="VECTOR_BACKUP_KEEP_LAST"):
        prune(KeepRules())
    with pytest.raises(
        MissingRequiredParams, match=r"^keep_last, keep_daily, .* and keep_within are all 0"
    ):
        prune(keep_last=0)
    with pytest.raises(InvalidParams, match="exclude each other"):
        prune(task_id="t", global_only=True)


def test_a_foreign_file_named_like_one_of_the_pipelines_blocks_nothing(
    tmp_path: Path, two: SetWriter, prune: Prune
) -> None:
    for name in (f"t_{THIRD}.csv", manifest_name(THIRD), tombstone_name(SECOND)):
        (two.path / name).mkdir()
    (two.path / "leading_to_itself").symlink_to("leading_to_itself")
    latin_1 = two.path / os.fsdecode(b"tabl\xe9_20260104_020000.csv")
    latin_1.write_bytes(b"a\n1\n")

    assert find_set(two.directory, "latest").stamp == SECOND
    locations = find_locations(BackupRoot(str(tmp_path), "vector_bak"))
    listed = list_backups(locations, DEFAULT_TIMESTAMPS)
    assert [backup.timestamp for backup in listed.backup_locations[0].backups] == [SECOND, FIRST]
    done = prune(include_orphans=True)
    assert (done.error, done.removed) == (None, [FIRST])
    assert latin_1.exists()
