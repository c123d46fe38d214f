"""Which stored files can be downloaded by name, and that no other file can."""

import os
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.catalog.downloads import Download, find_download
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    manifest_name,
    marker_name,
    reading_name,
    tombstone_name,
    verdict_name,
)
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_sets import EMBEDDING, SetWriter

STAMP, OTHER = "20250101_000000", "20250102_000000"
FILE = f"{EMBEDDING}_{STAMP}.csv"


@pytest.fixture
def root(tmp_path: Path) -> BackupRoot:
    return BackupRoot(str(tmp_path / "root"), "vector_bak")


@pytest.fixture
def sets(tmp_path: Path) -> SetWriter:
    writer = SetWriter(tmp_path / "root" / "vector_bak")
    writer.path.mkdir(parents=True)
    return writer


def _download(
    root: BackupRoot, file: str, timestamp: str = STAMP, task_id: str | None = None
) -> Download:
    return find_download(root, timestamp, file, task_id)


def _refused(
    root: BackupRoot,
    file: str,
    timestamp: str = STAMP,
    task_id: str | None = None,
    kind: type[BackupError] = ResourceNotFound,
) -> str:
    with pytest.raises(kind) as raised:
        _download(root, file, timestamp, task_id)
    message = raised.value.message
    assert root.location not in message
    return message


def _bytes(download: Download) -> bytes:
    return b"".join(download.directory.read(download.name))


def test_the_files_of_a_set_are_found(root: BackupRoot, sets: SetWriter) -> None:
    sets.write(STAMP, {EMBEDDING: 3, "app.t": 1})
    sets.verdict(STAMP)
    sets.file(LOG_NAME, b"a log")
    for packed in ("t_{}.csv.gz", "t_{}.pgcopy", "t_{}.pgcopy.zst"):
        sets.file(packed.format(STAMP))

    names = sets.directory.names()
    assert len(names) == 8
    for name in names:
        download = _download(root, name)
        assert (download.name, download.size) == (name, (sets.path / name).stat().st_size)
        assert download.version == download.directory.stat(name).version
        assert _bytes(download) == (sets.path / name).read_bytes()


def test_the_files_of_a_task_are_its_own(root: BackupRoot, sets: SetWriter, tmp_path: Path) -> None:
    sets.write(STAMP)
    task = SetWriter(tmp_path / "root" / "task_1" / "vector_bak")
    task.path.mkdir(parents=True)
    task.write(OTHER, {EMBEDDING: 9})

    download = _download(root, f"{EMBEDDING}_{OTHER}.csv", OTHER, "task_1")
    assert Path(download.directory.location).samefile(task.path)
    assert "task_1" in _refused(root, FILE, STAMP, "task_1")
    _refused(root, f"{EMBEDDING}_{OTHER}.csv", OTHER)
    assert "task task_2" in _refused(root, FILE, STAMP, "task_2")
    (tmp_path / "root" / "task_3").mkdir()
    assert "task task_3" in _refused(root, FILE, STAMP, "task_3")


@pytest.mark.parametrize(
    "name",
    [
        f"{FILE}.tmp",
        f"{manifest_name(STAMP)}.tmp",
        tombstone_name(OTHER),
        marker_name(STAMP),
        reading_name(STAMP, "run"),
        f"notes_{STAMP}.txt",
        f"{EMBEDDING}_{OTHER}.csv",
        manifest_name(OTHER),
        f"t{STAMP}.csv",
        f"a\\b_{STAMP}.csv",
        f"a\udcff_{STAMP}.csv",
    ],
)
def test_other_files_beside_a_set_are_not_handed_out(
    root: BackupRoot, sets: SetWriter, name: str
) -> None:
    sets.write(STAMP)
    sets.file(name)
    _refused(root, name).encode()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        f"../vector_bak/{FILE}",
        f"./{FILE}",
        f"/etc/passwd_{STAMP}.csv",
        f"..\\secret_{STAMP}.csv",
        f"{FILE}\0",
        f"nothing_{STAMP}.csv",
        FILE.upper(),
        "x" * 5000 + f"_{STAMP}.csv",
    ],
)
def test_a_name_leads_nowhere(root: BackupRoot, sets: SetWriter, name: str) -> None:
    sets.write(STAMP)
    sets.file(f"../secret_{STAMP}.csv")
    os.mkfifo(sets.path / f"pipe_{STAMP}.csv")
    (sets.path / f"folder_{STAMP}.csv").mkdir()
    for file in (name, f"pipe_{STAMP}.csv", f"folder_{STAMP}.csv"):
        _refused(root, file)


@pytest.mark.parametrize("beside", ["nothing", "a verdict", "a live run", "a tombstone"])
def test_files_that_belong_to_no_set_are_not_handed_out(
    root: BackupRoot, sets: SetWriter, beside: str
) -> None:
    sets.older(STAMP)
    claim = sets.running(STAMP) if beside == "a live run" else None
    if beside == "a verdict":
        sets.verdict(STAMP)
    if beside == "a tombstone":
        sets.write(STAMP)
        sets.file(tombstone_name(STAMP), b"{}")
    sets.file(LOG_NAME)

    for name in (FILE, manifest_name(STAMP), verdict_name(STAMP), LOG_NAME):
        assert f"of a backup set {STAMP}" in _refused(root, name)
    if claim is not None:
        claim.release()
    elif beside != "a tombstone":
        sets.adopt()
        assert _download(root, FILE).name == FILE


@pytest.mark.parametrize(
    ("timestamp", "task_id"),
    [
        *((timestamp, None) for timestamp in ("latest", "", "20251301_000000", "..", "20250101*")),
        *((STAMP, task_id) for task_id in ("", "..", "a/b", "ü", "task-1", "a\0")),
    ],
)
def test_malformed_parameters_are_refused(
    root: BackupRoot, sets: SetWriter, timestamp: str, task_id: str | None
) -> None:
    sets.write(STAMP)
    _refused(root, FILE, timestamp, task_id, kind=InvalidParams)


def test_a_file_that_is_a_link_is_not_handed_out_wherever_it_leads(
    root: BackupRoot, sets: SetWriter, tmp_path: Path
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


def test_a_directory_that_is_a_link_may_lead_within_the_root_only(
    root: BackupRoot, sets: SetWriter, tmp_path: Path
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
        assert _download(root, FILE, task_id=task).name == FILE


def test_files_in_a_bucket_are_found(bucket: Bucket) -> None:
    root = BackupRoot(f"{bucket.url}/all", "vector_bak")
    for directory in ("all/vector_bak", "all/task_1/vector_bak"):
        for name in (FILE, manifest_name(STAMP), f"deeper/{FILE}", f"{FILE}.tmp"):
            bucket.put(f"{directory}/{name}", b"12345")
    for task in (None, "task_1"):
        download = find_download(root, STAMP, FILE, task)
        assert (download.size, download.version) == (5, download.directory.stat(FILE).version)
        for name in (f"deeper/{FILE}", f"{FILE}.tmp", f"../vector_bak/{FILE}", LOG_NAME):
            with pytest.raises(ResourceNotFound) as raised:
                find_download(root, STAMP, name, task)
            assert bucket.name not in raised.value.message
    with pytest.raises(ResourceNotFound):
        find_download(root, STAMP, FILE, "task_2")
