"""Which stored file is handed out to who asks for it by its name, and that no other is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.catalog.downloads import Download, find_download
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    ResourceNotFound,
    StorageError,
)
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    manifest_name,
    marker_name,
    reading_name,
    tombstone_name,
    verdict_name,
)
from vector_backup_pipeline.engine.storage.local import LocalDirectory, LocalRoot
from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter

STAMP, OTHER = "20250101_000000", "20250102_000000"
FILE = f"{EMBEDDING}_{STAMP}.csv"


@pytest.fixture
def root(tmp_path: Path) -> LocalRoot:
    return LocalRoot(str(tmp_path / "root"), "vector_bak")


@pytest.fixture
def sets(tmp_path: Path) -> SetWriter:
    writer = SetWriter(tmp_path / "root" / "vector_bak")
    writer.path.mkdir(parents=True)
    return writer


def _found(
    root: LocalRoot, file: str, timestamp: str = STAMP, task_id: str | None = None
) -> Download:
    return find_download(root, TIMESTAMPS, timestamp, file, task_id)


def _refused(
    root: LocalRoot,
    file: str,
    timestamp: str = STAMP,
    task_id: str | None = None,
    kind: type[BackupError] = ResourceNotFound,
) -> str:
    with pytest.raises(kind) as raised:
        _found(root, file, timestamp, task_id)
    message = raised.value.message
    assert root.location not in message
    return message


def _bytes(download: Download) -> bytes:
    return b"".join(download.directory.read(download.name))


def test_the_files_of_a_set_are_found(root: LocalRoot, sets: SetWriter) -> None:
    sets.write(STAMP, {EMBEDDING: 3, "app.t": 1})
    sets.verdict(STAMP)
    sets.file(LOG_NAME, b"a log")
    for packed in ("t_{}.csv.gz", "t_{}.pgcopy", "t_{}.pgcopy.zst"):
        sets.file(packed.format(STAMP))

    names = sets.directory.names()
    assert len(names) == 8
    for name in names:
        found = _found(root, name)
        assert (found.name, found.size) == (name, (sets.path / name).stat().st_size)
        assert found.version == found.directory.version(name)
        assert _bytes(found) == (sets.path / name).read_bytes()


def test_files_with_a_damaged_manifest_are_handed_out(root: LocalRoot, sets: SetWriter) -> None:
    sets.damaged(STAMP)
    assert _found(root, FILE).name == FILE
    assert _bytes(_found(root, manifest_name(STAMP))) == b"{"


@pytest.mark.parametrize(
    "name",
    [
        f"a%2Fb_{STAMP}.csv",
        f"100%_{STAMP}.csv.zst",
        f"表 ü&=#?+;_{STAMP}.csv",
        f"a..b_{STAMP}.csv",
        f'say "hi"\n_{STAMP}.csv',
    ],
)
def test_a_name_is_literal(root: LocalRoot, sets: SetWriter, name: str) -> None:
    sets.write(STAMP)
    sets.file(name, b"its bytes")
    assert _bytes(_found(root, name)) == b"its bytes"


def test_the_files_of_a_task_are_its_own(root: LocalRoot, sets: SetWriter, tmp_path: Path) -> None:
    sets.write(STAMP)
    task = SetWriter(tmp_path / "root" / "task_1" / "vector_bak")
    task.path.mkdir(parents=True)
    task.write(OTHER, {EMBEDDING: 9})

    found = _found(root, f"{EMBEDDING}_{OTHER}.csv", OTHER, "task_1")
    assert Path(found.directory.location).samefile(task.path)
    assert "task_1" in _refused(root, FILE, STAMP, "task_1")
    _refused(root, f"{EMBEDDING}_{OTHER}.csv", OTHER)
    assert "task task_2" in _refused(root, FILE, STAMP, "task_2")
    (tmp_path / "root" / "task_3").mkdir()
    assert "task task_3" in _refused(root, FILE, STAMP, "task_3")


def test_the_older_systems_files_are_found_once_adopted(root: LocalRoot, sets: SetWriter) -> None:
    sets.older(STAMP)
    _refused(root, FILE)
    sets.adopt()
    for name in (FILE, f"{COLLECTION}_{STAMP}.csv", manifest_name(STAMP), LOG_NAME):
        assert _found(root, name).name == name


def test_what_belongs_to_no_set_is_not_handed_out(root: LocalRoot, sets: SetWriter) -> None:
    sets.write(OTHER)
    sets.verdict(STAMP)
    for name in (FILE, f"t_{STAMP}.csv.gz", f"t_{STAMP}.pgcopy", LOG_NAME):
        sets.file(name)
        assert f"of a backup set {STAMP}" in _refused(root, name)
    _refused(root, verdict_name(STAMP))
    _refused(root, FILE, OTHER)
    _found(root, LOG_NAME, OTHER)


def test_the_files_of_a_live_run_are_not_handed_out(root: LocalRoot, sets: SetWriter) -> None:
    claim = sets.running(STAMP)
    try:
        for name in (FILE, f"{FILE}.tmp", marker_name(STAMP), LOG_NAME):
            if name != marker_name(STAMP):
                sets.file(name)
            _refused(root, name)
    finally:
        claim.release()


@pytest.mark.parametrize(
    "name",
    [
        f"{FILE}.tmp",
        f"{manifest_name(STAMP)}.tmp",
        tombstone_name(OTHER),
        marker_name(STAMP),
        reading_name(STAMP, "run"),
        "notes.txt",
        f"notes_{STAMP}.txt",
        f"{EMBEDDING}_{OTHER}.csv",
        manifest_name(OTHER),
        f"t{STAMP}.csv",
        f"a\\b_{STAMP}.csv",
        f"a\udcff_{STAMP}.csv",
    ],
)
def test_other_files_beside_a_set_are_not_handed_out(
    root: LocalRoot, sets: SetWriter, name: str
) -> None:
    sets.write(STAMP)
    sets.file(name)
    _refused(root, name).encode()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        f"../vector_bak/{FILE}",
        f"./{FILE}",
        f"/etc/passwd_{STAMP}.csv",
        f"..\\secret_{STAMP}.csv",
        f"{FILE}\0",
        f"{FILE}\0.csv",
        f"nothing_{STAMP}.csv",
        FILE.upper(),
        "x" * 5000 + f"_{STAMP}.csv",
    ],
)
def test_a_name_leads_nowhere(root: LocalRoot, sets: SetWriter, name: str) -> None:
    sets.write(STAMP)
    sets.file(f"../secret_{STAMP}.csv")
    _refused(root, name)


def test_a_set_that_is_being_removed_is_not_handed_out(root: LocalRoot, sets: SetWriter) -> None:
    for stamp in (STAMP, OTHER):
        sets.older(stamp)
    sets.write(STAMP)
    sets.file(LOG_NAME)
    for stamp in (STAMP, OTHER):
        sets.file(tombstone_name(stamp), b"{}")
        for name in (f"{EMBEDDING}_{stamp}.csv", manifest_name(stamp), LOG_NAME):
            _refused(root, name, stamp)
        _refused(root, tombstone_name(stamp), stamp)


@pytest.mark.parametrize("timestamp", ["latest", "", "2025", "20251301_000000", "..", "20250101*"])
def test_a_timestamp_that_is_none_is_malformed(
    root: LocalRoot, sets: SetWriter, timestamp: str
) -> None:
    sets.write(STAMP)
    _refused(root, FILE, timestamp, kind=InvalidParams)


@pytest.mark.parametrize("task_id", ["", "..", "a/b", "ü", "task-1", "a\0"])
def test_a_task_id_that_is_none_is_malformed(root: LocalRoot, task_id: str) -> None:
    _refused(root, FILE, task_id=task_id, kind=InvalidParams)


def test_a_file_that_is_a_link_is_not_handed_out_wherever_it_leads(
    root: LocalRoot, sets: SetWriter, tmp_path: Path
) -> None:
    sets.write(STAMP)
    secret = tmp_path / "secret"
    secret.write_text("id\r\nsecret\r\n")
    for name, target in (("out", secret), ("in", sets.path / FILE), ("gone", tmp_path / "none")):
        (sets.path / f"{name}_{STAMP}.csv").symlink_to(target)
        _refused(root, f"{name}_{STAMP}.csv")
    (sets.path / f"out_{OTHER}.csv").symlink_to(secret)
    sets.file(LOG_NAME)
    _refused(root, f"out_{OTHER}.csv", OTHER)
    _refused(root, LOG_NAME, OTHER)
    (sets.path / LOG_NAME).unlink()
    (sets.path / LOG_NAME).symlink_to(secret)
    _refused(root, LOG_NAME)


def test_what_is_no_file_is_not_opened(root: LocalRoot, sets: SetWriter) -> None:
    sets.write(STAMP)
    for stamp in (STAMP, OTHER):
        os.mkfifo(sets.path / f"pipe_{stamp}.csv")
        (sets.path / f"folder_{stamp}.csv").mkdir()
        for name in ("pipe", "folder"):
            _refused(root, f"{name}_{stamp}.csv", stamp)


def test_a_directory_that_is_a_link_may_lead_within_the_root_only(
    root: LocalRoot, sets: SetWriter, tmp_path: Path
) -> None:
    outside = SetWriter(tmp_path / "outside" / "vector_bak")
    for writer in (outside, sets):
        writer.path.mkdir(parents=True, exist_ok=True)
        writer.write(STAMP)
    inside = tmp_path / "root"
    (inside / "out_task").symlink_to(outside.path.parent)
    (inside / "out_bak").mkdir()
    (inside / "out_bak" / "vector_bak").symlink_to(outside.path)
    (inside / "round").symlink_to(inside / "round")
    (inside / "in_bak").mkdir()
    (inside / "in_bak" / "vector_bak").symlink_to(sets.path)
    (inside / "in_task").symlink_to(inside / "in_bak")

    for task in ("out_task", "out_bak", "round"):
        _refused(root, FILE, task_id=task)
    for task in ("in_bak", "in_task"):
        assert _found(root, FILE, task_id=task).name == FILE


def test_a_root_that_is_a_link_is_the_root_all_the_same(sets: SetWriter, tmp_path: Path) -> None:
    sets.write(STAMP)
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert _found(LocalRoot(str(tmp_path / "link"), "vector_bak"), FILE).name == FILE


def test_a_file_that_goes_after_it_was_listed_is_not_found(
    root: LocalRoot, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.write(STAMP)
    names = LocalDirectory.names

    def names_before_it_went(directory: LocalDirectory) -> list[str]:
        listed = names(directory)
        (sets.path / FILE).unlink()
        return listed

    monkeypatch.setattr(LocalDirectory, "names", names_before_it_went)
    _refused(root, FILE)


def test_what_the_storage_refuses_is_told_without_its_path(
    root: LocalRoot, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.write(STAMP)

    def refuse(directory: LocalDirectory) -> list[str]:
        raise StorageError(f"Could not list {directory.location}: Input/output error.")

    monkeypatch.setattr(LocalDirectory, "names", refuse)
    with pytest.raises(StorageError) as raised:
        _found(root, FILE)
    assert root.location not in raised.value.message
    assert root.location in str(raised.value.__cause__)


def test_the_manifest_is_not_read_and_the_directory_listed_once(
    root: LocalRoot, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.write(STAMP)
    listed: list[str] = []
    names = LocalDirectory.names

    def watched(directory: LocalDirectory) -> list[str]:
        listed.append(directory.location)
        return names(directory)

    def read(*_: object) -> Iterator[bytes]:
        raise AssertionError("Nothing has to be read.")

    monkeypatch.setattr(LocalDirectory, "names", watched)
    monkeypatch.setattr(LocalDirectory, "read", read)
    for name in (FILE, manifest_name(STAMP)):
        _found(root, name)
    assert len(listed) == 2


def test_files_in_a_bucket_are_found_and_their_store_tells_their_version(bucket: Bucket) -> None:
    root = ObjectRoot(f"{bucket.url}/all", "vector_bak")
    for place in ("all/vector_bak", "all/task_1/vector_bak"):
        for name in (FILE, manifest_name(STAMP), f"deeper/{FILE}", f"{FILE}.tmp"):
            bucket.put(f"{place}/{name}", b"12345")
    for task in (None, "task_1"):
        found = find_download(root, TIMESTAMPS, STAMP, FILE, task)
        tag = bucket.client.head_object(Bucket=bucket.name, Key=f"all/vector_bak/{FILE}")["ETag"]
        assert (found.size, f'"{found.version}"') == (5, tag)
        for name in (f"deeper/{FILE}", f"{FILE}.tmp", f"../vector_bak/{FILE}", LOG_NAME):
            with pytest.raises(ResourceNotFound) as raised:
                find_download(root, TIMESTAMPS, STAMP, name, task)
            assert bucket.name not in raised.value.message
    with pytest.raises(ResourceNotFound):
        find_download(root, TIMESTAMPS, STAMP, FILE, "task_2")
