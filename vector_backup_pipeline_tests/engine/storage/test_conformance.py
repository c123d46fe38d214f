"""What every store must do, held against each of them. A new store is one more `_STORES` entry."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.parameters import is_task_id
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalRoot

_OWNER: dict[str, str | int] = {"host": "here", "pid": 1, "run_id": "x"}


def _local(folder: Path) -> BackupRoot:
    return LocalRoot(str(folder / "root"), "vector_bak")


_STORES: dict[str, Callable[[Path], BackupRoot]] = {"local": _local}


@pytest.fixture(params=_STORES)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> BackupRoot:
    return _STORES[request.param](tmp_path)


@pytest.fixture
def directory(root: BackupRoot) -> BackupDirectory:
    return root.open(None)


def _stored(directory: BackupDirectory, name: str) -> bytes:
    return b"".join(directory.read(name))


def test_a_directory_is_there_once_it_was_opened(root: BackupRoot) -> None:
    assert root.find(None) is None
    opened = root.open(None)
    found = root.find(None)
    assert found is not None
    assert found.location == opened.location == root.open(None).location
    assert opened.location.startswith(root.location)
    assert opened.names() == []


def test_a_task_that_is_not_there_is_not_made(root: BackupRoot) -> None:
    for look in (root.find, root.open):
        with pytest.raises(ResourceNotFound):
            look("task_1")
    assert root.task_ids(is_task_id) == []


def test_a_file_appears_whole_and_under_its_name_alone(directory: BackupDirectory) -> None:
    with directory.create("a.csv") as file:
        file.write(b"one\n")
        file.write(b"")
        file.write(b"two\n")
        assert "a.csv" not in directory.names()
        file.commit()
        assert directory.names() == ["a.csv"]
    assert directory.names() == ["a.csv"]
    assert _stored(directory, "a.csv") == b"one\ntwo\n"


def test_a_file_of_many_blocks_is_read_back_as_written(directory: BackupDirectory) -> None:
    blocks = [bytes([number]) * 700_000 for number in range(5)]
    with directory.create("a.csv") as file:
        for block in blocks:
            file.write(block)
        file.commit()
    assert _stored(directory, "a.csv") == b"".join(blocks)


def test_an_empty_file_is_a_file(directory: BackupDirectory) -> None:
    with directory.create("a.csv") as file:
        file.commit()
    assert _stored(directory, "a.csv") == b""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_that_was_given_up_leaves_no_trace(
    directory: BackupDirectory, error: type[BaseException]
) -> None:
    with pytest.raises(error), directory.create("a.csv") as file:
        file.write(b"half")
        raise error
    assert directory.names() == []


def test_a_file_that_was_not_committed_leaves_no_trace(directory: BackupDirectory) -> None:
    with directory.create("a.csv") as file:
        file.write(b"half")
    assert directory.names() == []


def test_a_finished_file_is_never_overwritten_by_another(directory: BackupDirectory) -> None:
    directory.replace("a.csv", b"first")
    with pytest.raises(StorageError), directory.create("a.csv") as file:
        file.write(b"second")
        file.commit()
    assert _stored(directory, "a.csv") == b"first"
    assert directory.names() == ["a.csv"]


def test_replacing_is_whole_and_may_be_done_again(directory: BackupDirectory) -> None:
    for text in (b"long enough to shorten", b"short"):
        directory.replace("m.json", text)
        assert _stored(directory, "m.json") == text
    assert directory.names() == ["m.json"]


def test_a_file_that_is_not_there_is_not_found(directory: BackupDirectory) -> None:
    with pytest.raises(ResourceNotFound):
        _stored(directory, "a.csv")


def test_deleting_twice_is_deleting_once(directory: BackupDirectory) -> None:
    directory.replace("a.csv", b"x")
    directory.delete("a.csv")
    directory.delete("a.csv")
    assert directory.names() == []


def test_no_part_of_what_many_append_at_once_is_lost_or_torn(directory: BackupDirectory) -> None:
    sections = [f"{number}:" + f"{number % 10}" * 20_000 + "\n" for number in range(40)]
    threads = [
        threading.Thread(target=directory.append, args=("log.txt", text)) for text in sections
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = _stored(directory, "log.txt").decode().splitlines(keepends=True)
    assert sorted(written) == sorted(sections)


def test_of_many_at_once_exactly_one_gets_a_claim(directory: BackupDirectory) -> None:
    together = threading.Barrier(8)
    claims = []

    def claim() -> None:
        together.wait()
        claims.append(directory.claim(".m.run", _OWNER))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (held,) = [claim for claim in claims if claim is not None]
    assert directory.claim_is_alive(".m.run")
    held.release()
    assert directory.names() == []


def test_a_held_claim_lives_and_is_not_removed(directory: BackupDirectory) -> None:
    held = directory.claim(".m.run", _OWNER)
    assert held is not None
    assert directory.claim_is_alive(".m.run")
    directory.remove_dead_claim(".m.run")
    assert directory.names() == [".m.run"]
    held.release()
    held.release()
    assert not directory.claim_is_alive(".m.run")
    directory.remove_dead_claim(".m.run")


def test_a_released_claim_may_be_had_again(directory: BackupDirectory) -> None:
    for _ in range(2):
        held = directory.claim(".m.run", _OWNER)
        assert held is not None
        held.release()


def test_only_errors_of_ours_come_out(root: BackupRoot, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("in the way")
    with pytest.raises(BackupError):
        root.open(None)
