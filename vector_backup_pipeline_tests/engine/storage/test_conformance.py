"""What every store must do with files and directories; `test_run_markers` has the run markers."""

import contextlib
import re
import threading
from datetime import datetime, timedelta, timezone

import pytest

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.engine.storage.conftest import EVERY_STORE


def _stored(directory: BackupDirectory, name: str) -> bytes:
    return b"".join(directory.read(name))


def test_a_directory_is_there_once_something_lies_in_it(root: BackupRoot) -> None:
    assert root.find(None) is None
    opened = root.open(None)
    assert opened.names() == []
    opened.replace("a.csv", b"")
    directory = root.find(None)
    assert directory is not None
    assert directory.location == opened.location == root.open(None).location
    assert opened.location == root.default_path
    assert opened.location.startswith(root.location)


def test_a_task_that_is_not_there_is_not_made(root: BackupRoot) -> None:
    for look in (root.find, root.open):
        with pytest.raises(ResourceNotFound):
            look("task_1")
    assert root.task_ids() == []


def test_a_task_with_a_file_exists_and_differs_from_the_roots_own_directory(
    root: BackupRoot,
) -> None:
    root.open(None).replace("a.csv", b"")
    _in_task(root, "task_1", "notes.txt")
    _in_task(root, "not-a-task", "notes.txt")

    assert root.find("task_1") is None
    task = root.open("task_1")
    task.replace("a.csv", b"1")

    assert root.task_ids() == ["task_1"]
    directory = root.find("task_1")
    assert directory is not None
    assert directory.location == task.location == f"{root.location}/task_1/vector_bak"
    assert directory.names() == ["a.csv"]
    for path in (directory.location, root.relative_path(directory)):
        again = root.find_path(path)
        assert again is not None
        assert again.names() == ["a.csv"]


def test_no_task_is_called_like_the_roots_own_directory(root: BackupRoot) -> None:
    root.open(None).replace("a.csv", b"")

    for look in (root.find, root.open):
        with pytest.raises(InvalidParams, match="Choose another task_id"):
            look("vector_bak")
    with pytest.raises(InvalidParams), root.open_for_trial("vector_bak"):
        pass


def test_a_path_leads_nowhere_but_into_the_root(root: BackupRoot) -> None:
    own = root.open(None)
    own.replace("a.csv", b"")
    root_name = root.location.rpartition("/")[2]
    assert root.relative_path(own) == f"{root_name}/vector_bak"
    assert root.find_path(root.location) is not None
    assert root.find_path(f"{root_name}/nothing") is None
    for path in (
        "elsewhere/vector_bak",
        f"{root_name}/../elsewhere",
        "/etc",
        f"{root.location}2/vector_bak",
        "s3://another-bucket/all/backups/vector_bak",
    ):
        with pytest.raises(InvalidParams):
            root.find_path(path)


def test_a_part_of_a_file_is_read_and_what_is_past_its_end_is_nothing(
    directory: BackupDirectory,
) -> None:
    directory.replace("a.csv", b"0123456789")
    directory.replace("empty.csv", b"")
    parts = {(0, 4): b"0123", (3, None): b"3456789", (8, 9): b"89", (10, 1): b"", (99, None): b""}
    for (offset, length), expected in parts.items():
        assert b"".join(directory.read("a.csv", offset, length)) == expected
    assert b"".join(directory.read("a.csv", 5, 0)) == b""
    assert b"".join(directory.read("empty.csv", 0, 10)) == b""
    assert directory.stat("a.csv").size == 10


def test_a_file_has_its_time(directory: BackupDirectory) -> None:
    with pytest.raises(ResourceNotFound):
        directory.stat("a.csv")
    with pytest.raises(ResourceNotFound):
        _stored(directory, "a.csv")
    before = datetime.now(timezone.utc)
    directory.replace("a.csv", b"x")
    # A bucket's times are whole seconds.
    assert abs(directory.stat("a.csv").modified_at - before) < timedelta(seconds=30)


def test_a_directory_opened_for_trial_leaves_nothing(root: BackupRoot) -> None:
    with root.open_for_trial(None) as directory:
        directory.replace("a.csv", b"x")
        directory.delete("a.csv")
    assert root.find(None) is None
    with root.open_for_trial(None) as directory:
        directory.replace("a.csv", b"x")
    not_empty = root.find(None)
    assert not_empty is not None
    assert not_empty.names() == ["a.csv"]


@pytest.mark.parametrize("name", ["a%2Fb_1.csv", "ü #&+.csv", ".vector_backup_1.run", "a=b;c.csv"])
def test_a_name_stays_what_it_is(directory: BackupDirectory, name: str) -> None:
    directory.replace(name, b"x")
    assert directory.names() == [name]
    assert _stored(directory, name) == b"x"
    # It is part of an ETag.
    assert re.fullmatch(r"[!#-~]+", directory.stat(name).version)
    directory.delete(name)
    directory.delete(name)
    assert directory.names() == []


@pytest.mark.parametrize("blocks", [0, 5])
def test_a_file_appears_whole_and_under_its_name_alone(
    directory: BackupDirectory, blocks: int
) -> None:
    content = [b"", *(bytes([number]) * 700_000 for number in range(blocks))]
    with directory.create("a.csv") as file:
        for block in content:
            file.write(block)
        assert "a.csv" not in directory.names()
        file.commit()
        assert directory.names() == ["a.csv"]
    assert directory.names() == ["a.csv"]
    assert _stored(directory, "a.csv") == b"".join(content)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_file_that_was_not_committed_leaves_no_trace(
    directory: BackupDirectory, error: type[BaseException] | None
) -> None:
    with contextlib.suppress(ValueError, KeyboardInterrupt), directory.create("a.csv") as file:
        file.write(b"half")
        if error:
            raise error
    assert directory.names() == []


@EVERY_STORE
def test_a_finished_file_is_never_overwritten_by_another(directory: BackupDirectory) -> None:
    directory.replace("a.csv", b"first")
    with pytest.raises(StorageError), directory.create("a.csv") as file:
        file.write(b"second")
        file.commit()
    assert _stored(directory, "a.csv") == b"first"
    assert directory.names() == ["a.csv"]


@EVERY_STORE
def test_a_version_stays_until_the_bytes_may_be_others(directory: BackupDirectory) -> None:
    directory.replace("a.csv", b"first")
    versions = [directory.stat("a.csv").version]
    assert directory.stat("a.csv").version == versions[0]
    for data in (b"other", b"a longer one", b""):
        directory.replace("a.csv", data)
        assert _stored(directory, "a.csv") == data
        versions.append(directory.stat("a.csv").version)
    assert len(set(versions)) == len(versions)
    assert directory.names() == ["a.csv"]


@EVERY_STORE
def test_no_part_of_what_many_append_at_once_is_lost_or_torn(
    root: BackupRoot, directory: BackupDirectory
) -> None:
    """Each with its own connections, like processes."""
    sections = [f"{number}:" + f"{number % 10}" * 20_000 + "\n" for number in range(6)]

    def append(text: str) -> None:
        BackupRoot(root.location, "vector_bak").open(None).append("log.txt", text)

    threads = [threading.Thread(target=append, args=(text,), daemon=True) for text in sections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    written = _stored(directory, "log.txt").decode().splitlines(keepends=True)
    assert sorted(written) == sorted(sections)
    assert directory.names() == ["log.txt"]


def _in_task(root: BackupRoot, task_id: str, name: str) -> None:
    """Create the task's directory, as a user does."""
    BackupRoot(root.location, task_id).open(None).replace(name, b"")
