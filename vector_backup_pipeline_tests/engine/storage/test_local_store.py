"""Only of a directory on a POSIX file system: durability, locks, heartbeats."""

import errno
import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.storage.root import BackupRoot

_OWNER: dict[str, str | int] = {"host": socket.gethostname(), "pid": os.getpid(), "run_id": "x"}


@pytest.fixture
def directory(tmp_path: Path) -> BackupDirectory:
    return BackupRoot(str(tmp_path.parent), tmp_path.name).open(None)


def test_every_new_directory_is_made_durable_in_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    BackupRoot(str(tmp_path / "a" / "root"), "vector_bak").open(None)

    assert flushed == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "root")]


def test_a_file_is_durable_before_it_has_its_name_and_then_its_name_is(
    directory: BackupDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watch_fsync(descriptor: int) -> None:
        order.append("flush " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def watch_rename(path: Path, target: Path) -> Path:
        order.append(f"rename to {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(Path, "rename", watch_rename)
    directory.replace("m.json", b"{}")

    assert order == ["flush m.json.tmp", "rename to m.json", f"flush {tmp_path.name}"]


def test_the_end_of_an_upload_leaves_the_next_writers_temporary_file(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    first = store.upload("log.txt")
    first.complete()
    second = store.upload("log.txt")

    first.abort()

    second.write(b"second")
    second.complete()
    assert (tmp_path / "log.txt").read_bytes() == b"second"


def test_a_marker_on_a_medium_mounted_read_only_is_looked_at_all_the_same(
    directory: BackupDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marker").write_text(json.dumps({**_OWNER, "heartbeat": "2025-07-21T00:00:00Z"}))
    opened = os.open

    def read_only(path: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)

    assert not directory.claim_is_alive("marker")


def test_what_is_no_regular_file_itself_has_no_version(
    directory: BackupDirectory, tmp_path: Path
) -> None:
    (tmp_path / "file.csv").write_bytes(b"x")
    (tmp_path / "link.csv").symlink_to(tmp_path / "file.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")

    assert directory.stat("file.csv").version
    for name in ("link.csv", "loop.csv", "folder.csv", "pipe.csv"):
        with pytest.raises(ResourceNotFound):
            directory.stat(name)


def test_a_file_changed_in_place_is_another_version(
    directory: BackupDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1")
    first = directory.stat("a.csv").version
    os.utime(path, ns=(0, 0))
    assert directory.stat("a.csv").version != first


def test_a_link_that_leads_round_in_a_circle_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "vector_bak").symlink_to(tmp_path / "vector_bak")
    root = BackupRoot(str(tmp_path), "vector_bak")
    assert root.find(None) is None
    assert root.find_path(root.default_path) is None


@pytest.mark.parametrize("path_in_root", ["task_1", "task_1/vector_bak", "vector_bak"])
def test_a_link_that_leads_out_of_the_root_is_refused_by_everything(
    tmp_path: Path, path_in_root: str
) -> None:
    path, outside = tmp_path / "root" / path_in_root, tmp_path / "outside"
    (outside / "vector_bak").mkdir(parents=True)
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    root = BackupRoot(str(tmp_path / "root"), "vector_bak")
    task = "task_1" if "task_1" in path_in_root else None

    assert root.task_ids() == []
    looks: list[Callable[[], object]] = [
        lambda: root.find(task),
        lambda: root.open(task),
        lambda: ExitStack().enter_context(root.open_for_trial(task)),
        lambda: root.find_path(f"root/{path_in_root}"),
    ]
    for look in looks:
        with pytest.raises(InvalidParams, match="out"):
            look()
    assert [entry.name for entry in outside.iterdir()] == ["vector_bak"]


def test_a_link_within_the_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "task_1" / "vector_bak").mkdir(parents=True)
    (tmp_path / "task_2").symlink_to(tmp_path / "task_1")
    root = BackupRoot(str(tmp_path), "vector_bak")

    assert root.task_ids() == ["task_1", "task_2"]
    assert root.find("task_2") is not None


def test_a_marker_that_cannot_be_removed_is_left_silently(
    directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = directory.claim(".m.run", "run")
    assert held is not None

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    held.release()
    monkeypatch.undo()
    assert not directory.claim_is_alive(".m.run")
    directory.remove_dead_claim(".m.run")
    assert directory.names() == []
