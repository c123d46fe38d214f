"""What every store must do, held against each of them. A new store is one more `_STORES` entry."""

import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage import object_bucket, object_upload
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalRoot
from vector_backup_pipeline.engine.storage.object_root import ObjectDirectory, ObjectRoot
from vector_backup_pipeline.engine.storage.object_url import parse_object_url
from vector_backup_pipeline.parameters.types import is_task_id
from vector_backup_pipeline_tests.fix_object_store import Bucket

_OWNER: dict[str, str | int] = {"host": "here", "pid": 1, "run_id": "x"}


def _local(request: pytest.FixtureRequest) -> BackupRoot:
    folder: Path = request.getfixturevalue("tmp_path")
    return LocalRoot(str(folder / "root"), "vector_bak")


def _s3(request: pytest.FixtureRequest) -> BackupRoot:
    bucket: Bucket = request.getfixturevalue("bucket")
    return ObjectRoot(f"{bucket.url}/all/backups", "vector_bak")


def _s3_without_conditions(request: pytest.FixtureRequest) -> BackupRoot:
    request.getfixturevalue("own_aws_environment")
    request.getfixturevalue("monkeypatch").setenv("AWS_CONDITIONAL_PUT", "disabled")
    return _s3(request)


def _memory(request: pytest.FixtureRequest) -> BackupRoot:
    """obstore's own store, which is neither S3's kind nor asked over a network."""
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    store = MemoryStore()
    for each in ("open_store", "open_store_for_writing"):
        patch.setattr(object_bucket, each, lambda *_: store)
    patch.setattr(object_upload, "open_store_for_parts", lambda *_: store)
    return ObjectRoot("gs://bucket/all/backups", "vector_bak")


_STORES: dict[str, Callable[[pytest.FixtureRequest], BackupRoot]] = {
    "local": _local,
    "memory": _memory,
    "s3": _s3,
    "s3 without conditions": _s3_without_conditions,
}


@pytest.fixture(params=_STORES)
def root(request: pytest.FixtureRequest) -> BackupRoot:
    return _STORES[request.param](request)


@pytest.fixture
def directory(root: BackupRoot) -> BackupDirectory:
    return root.open(None)


def _stored(directory: BackupDirectory, name: str) -> bytes:
    return b"".join(directory.read(name))


def test_a_directory_is_there_once_something_lies_in_it(root: BackupRoot) -> None:
    assert root.find(None) is None
    opened = root.open(None)
    assert opened.names() == []
    opened.replace("a.csv", b"")
    found = root.find(None)
    assert found is not None
    assert found.location == opened.location == root.open(None).location
    assert opened.location == root.default_path
    assert opened.location.startswith(root.location)


def test_a_task_that_is_not_there_is_not_made(root: BackupRoot) -> None:
    for look in (root.find, root.open):
        with pytest.raises(ResourceNotFound):
            look("task_1")
    assert root.task_ids(is_task_id) == []


def test_a_task_with_a_file_is_there_and_is_told_from_the_roots_own(root: BackupRoot) -> None:
    root.open(None).replace("a.csv", b"")
    _in_task(root, "task_1", "notes.txt")
    _in_task(root, "not-a-task", "notes.txt")

    assert root.find("task_1") is None
    task = root.open("task_1")
    task.replace("a.csv", b"1")

    assert root.task_ids(is_task_id) == ["task_1"]
    found = root.find("task_1")
    assert found is not None
    assert found.location == task.location == f"{root.location}/task_1/vector_bak"
    assert found.names() == ["a.csv"]
    for path in (found.location, root.relative_path(found)):
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
    assert directory.size("a.csv") == 10


def test_a_file_tells_when_it_was_written(directory: BackupDirectory) -> None:
    with pytest.raises(ResourceNotFound):
        directory.modified_at("a.csv")
    before = datetime.now(timezone.utc)
    directory.replace("a.csv", b"x")
    # A bucket tells whole seconds.
    assert abs(directory.modified_at("a.csv") - before) < timedelta(seconds=30)


def test_a_directory_opened_for_trial_leaves_nothing(root: BackupRoot) -> None:
    with root.open_for_trial(None) as directory:
        directory.replace("a.csv", b"x")
        directory.delete("a.csv")
    assert root.find(None) is None
    with root.open_for_trial(None) as directory:
        directory.replace("a.csv", b"x")
    found = root.find(None)
    assert found is not None
    assert found.names() == ["a.csv"]


@pytest.mark.parametrize("name", ["a%2Fb_1.csv", "ü #&+.csv", ".vector_backup_1.run", "a=b;c.csv"])
def test_a_name_stays_what_it_is(directory: BackupDirectory, name: str) -> None:
    directory.replace(name, b"x")
    assert directory.names() == [name]
    assert _stored(directory, name) == b"x"


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
    with pytest.raises(ResourceNotFound):
        directory.size("a.csv")
    with pytest.raises(ResourceNotFound):
        directory.version("a.csv")


def test_a_version_stays_until_the_bytes_may_be_others(directory: BackupDirectory) -> None:
    directory.replace("a.csv", b"first")
    versions = [directory.version("a.csv")]
    assert directory.version("a.csv") == versions[0]
    for data in (b"other", b"a longer one", b""):
        directory.replace("a.csv", data)
        versions.append(directory.version("a.csv"))
    assert len(set(versions)) == len(versions)


def test_what_is_appended_is_another_version(directory: BackupDirectory) -> None:
    directory.append("log.txt", "one\n")
    first = directory.version("log.txt")
    directory.append("log.txt", "two\n")
    assert directory.version("log.txt") != first


def test_a_version_can_stand_in_an_e_tag(directory: BackupDirectory) -> None:
    directory.replace("ü #&+.csv", b"x")
    assert re.fullmatch(r"[!#-~]+", directory.version("ü #&+.csv"))


def test_deleting_twice_is_deleting_once(directory: BackupDirectory) -> None:
    directory.replace("a.csv", b"x")
    directory.delete("a.csv")
    directory.delete("a.csv")
    assert directory.names() == []


def test_no_part_of_what_many_append_at_once_is_lost_or_torn(directory: BackupDirectory) -> None:
    sections = [f"{number}:" + f"{number % 10}" * 20_000 + "\n" for number in range(16)]
    threads = [
        threading.Thread(target=directory.append, args=("log.txt", text), daemon=True)
        for text in sections
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    written = _stored(directory, "log.txt").decode().splitlines(keepends=True)
    assert sorted(written) == sorted(sections)


def test_of_many_at_once_no_two_get_a_claim(directory: BackupDirectory) -> None:
    together = threading.Barrier(8, timeout=20)
    claims = []

    def claim() -> None:
        together.wait()
        claims.append(directory.claim(".m.run", _OWNER))

    threads = [threading.Thread(target=claim, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(claims) == 8
    held = [claim for claim in claims if claim is not None]
    # Where there are no conditions, each may see another and give up.
    assert len(held) <= 1
    assert directory.claim_is_alive(".m.run") == bool(held)
    for claim_held in held:
        claim_held.release()
    assert directory.names() == []


def test_a_held_claim_lives_and_is_not_removed(directory: BackupDirectory) -> None:
    held = directory.claim(".m.run", _OWNER)
    assert held is not None
    assert directory.claim_is_alive(".m.run")
    for name in (".m.run", *directory.names()):
        assert directory.claim_is_alive(name)
        directory.remove_dead_claim(name)
    (name,) = directory.names()
    assert name.startswith(".m.run")
    assert directory.claim(".m.run", _OWNER) is None
    held.release()
    held.release()
    assert not directory.claim_is_alive(".m.run")
    directory.remove_dead_claim(".m.run")


def test_a_released_claim_may_be_had_again(directory: BackupDirectory) -> None:
    for _ in range(2):
        held = directory.claim(".m.run", _OWNER)
        assert held is not None
        held.release()


def test_nothing_is_abandoned_where_nothing_was_left(root: BackupRoot) -> None:
    root.open(None).replace("a_20250101_000000.csv", b"")
    assert root.abort_abandoned_uploads(dry_run=False) == []


def _in_task(root: BackupRoot, task_id: str, name: str) -> None:
    """What a user would do to have a task there."""
    if isinstance(root, LocalRoot):
        Path(root.location, task_id).mkdir(parents=True)
        Path(root.location, task_id, name).touch()
    else:
        url = parse_object_url(f"{root.location}/{task_id}")
        ObjectDirectory(object_bucket.Bucket(url), url).replace(name, b"")
