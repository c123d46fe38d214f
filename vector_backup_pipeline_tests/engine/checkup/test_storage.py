"""What is said of the place where backups go, and that the check leaves nothing there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.checkup.storage import LeftBehind, check_storage
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalDirectory, LocalRoot
from vector_backup_pipeline.engine.storage.local_claim import LocalClaim
from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline_tests.fix_checkup import Checker, Found
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_sets import SetWriter

STEPS = ["directory", "put", "list", "get", "replace", "delete", "run marker", "speed"]


class _Directory(LocalDirectory):
    """A directory one of whose methods does what a test wants it to, after its own work."""

    def __init__(self, path: Path, method: str, happens: Callable[[str], Any]) -> None:
        super().__init__(path)
        own = getattr(self, method)

        def changed(*arguments: Any, **more: Any) -> Any:
            done = own(*arguments, **more)
            return done if (instead := happens(str(arguments))) is None else instead

        setattr(self, method, changed)


class _Root(LocalRoot):
    def __init__(self, root: Path, method: str, happens: Callable[[str], Any]) -> None:
        super().__init__(str(root), "vector_bak")
        self._changed = method, happens

    def open(self, task_id: str | None) -> LocalDirectory:
        return _Directory(Path(super().open(task_id).location), *self._changed)


def storage(check: Checker, **changed: Any) -> Found:
    return Found(check_storage(check.plan(None, **changed)).findings)


def broken(check: Checker, method: str, happens: Callable[[str], Any]) -> BackupRoot:
    return _Root(check.root, method, happens)


def test_a_place_that_can_all_passes_and_nothing_stays(check: Checker) -> None:
    found = storage(check)

    assert found.of_status("ok") == [f"storage: {step}" for step in STEPS]
    assert len(found.findings) == len(STEPS)
    assert "is not there yet and can be made" in found["storage: directory"].message
    assert "8.0 MB were written at " in found["storage: speed"].message
    assert check.paths == []


def test_a_root_that_is_missing_with_its_parents_is_missing_afterwards(check: Checker) -> None:
    root = LocalRoot(str(check.root / "a" / "b"), "vector_bak")

    assert storage(check, root=root).of_status("failed") == []
    assert check.paths == []


def test_a_directory_that_is_there_stays_as_it_was(check: Checker) -> None:
    sets = SetWriter(check.root / "vector_bak")
    sets.write("20250101_000000")
    before = check.paths

    found = storage(check)

    assert found["storage: directory"].message.endswith("is there")
    assert check.paths == before


def test_a_tasks_own_directory_is_tried(check: Checker) -> None:
    (check.root / "corpus_7").mkdir()

    found = storage(check, task_id="corpus_7")

    assert str(check.root / "corpus_7" / "vector_bak") in found["storage: directory"].message
    assert check.paths == ["corpus_7"]


def test_a_task_that_is_missing_fails_with_what_to_do(check: Checker) -> None:
    (told,) = storage(check, task_id="nope").findings

    assert told.status == "failed"
    assert "does not exist" in told.message
    assert "Create it" in str(told.advice)
    assert check.paths == []


def test_a_directory_that_is_a_file_fails(check: Checker) -> None:
    (check.root / "vector_bak").write_text("no directory")

    (told,) = storage(check).findings

    assert told.status == "failed"
    assert (check.root / "vector_bak").read_text() == "no directory"


@pytest.mark.parametrize(
    ("method", "instead", "step", "said"),
    [
        ("names", [], "list", "not in the list"),
        ("size", 7, "put", "has 7 bytes now"),
        ("read", iter([b"something else"]), "get", "not the 1912 that were written"),
    ],
)
def test_a_store_that_does_not_keep_its_promises_is_found_out(
    check: Checker, method: str, instead: object, step: str, said: str
) -> None:
    told = storage(check, root=broken(check, method, lambda _: instead))[f"storage: {step}"]

    assert told.status == "failed"
    assert said in told.message
    assert check.paths == []


def test_a_store_that_gives_one_marker_to_two_runs_is_found_out(check: Checker) -> None:
    class Second:
        def release(self) -> None: ...

    claims = iter([None, Second()])

    told = storage(check, root=broken(check, "claim", lambda _: next(claims)))

    assert told["storage: run marker"].status == "failed"
    assert "to two runs" in told["storage: run marker"].message
    assert check.paths == []


def test_a_store_whose_locks_are_not_seen_is_found_out(check: Checker) -> None:
    told = storage(check, root=broken(check, "claim_is_alive", lambda _: False))

    assert "would be taken for dead" in told["storage: run marker"].message


@pytest.mark.parametrize(
    "method", ["create", "size", "names", "read", "replace", "claim", "claim_is_alive", "delete"]
)
def test_an_interrupt_at_any_step_leaves_nothing(check: Checker, method: str) -> None:
    interrupts = iter([KeyboardInterrupt()])

    def interrupt(_: str) -> None:
        for each in interrupts:
            raise each

    with pytest.raises(KeyboardInterrupt):
        storage(check, root=broken(check, method, interrupt))

    assert check.paths == []


class _Keeps(LocalDirectory):
    """Lets nothing be removed, and is interrupted at its run marker if it is told so."""

    interrupt: BaseException | None = None

    def delete(self, name: str) -> None:
        raise StorageError(f"Could not remove {name}: Operation not permitted. Ask its owner.")

    def claim(self, name: str, owner: Mapping[str, str | int]) -> LocalClaim | None:
        if self.interrupt is not None:
            raise self.interrupt
        return super().claim(name, owner)


class _KeepingRoot(LocalRoot):
    def __init__(self, root: Path, interrupt: BaseException | None = None) -> None:
        super().__init__(str(root), "vector_bak")
        self._interrupt = interrupt

    def open(self, task_id: str | None) -> LocalDirectory:
        directory = _Keeps(Path(super().open(task_id).location))
        directory.interrupt = self._interrupt
        return directory


def test_what_can_not_be_removed_is_named_when_interrupted_too(check: Checker) -> None:
    with pytest.raises(LeftBehind, match="Operation not permitted") as raised:
        storage(check, root=_KeepingRoot(check.root, KeyboardInterrupt()))

    assert isinstance(raised.value.__cause__, KeyboardInterrupt)


def test_what_can_not_be_removed_is_named(check: Checker) -> None:
    found = storage(check, root=_KeepingRoot(check.root))

    assert found["storage: delete"].status == "failed"
    told = found["storage: left behind"]
    assert "Operation not permitted" in told.message
    kept = [path for path in check.paths if path != "vector_bak"]
    assert len(kept) == 2
    (name,) = [word for word in str(told.advice).split() if word.endswith("*")]
    assert all(Path(path).name.startswith(name.rstrip("*")) for path in kept)


def test_what_a_killed_check_left_is_removed_by_the_next_one(check: Checker) -> None:
    directory = check.root / "vector_bak"
    directory.mkdir()
    for name in ("_1700000000_00c0ffee_file", "_1700000000_00c0ffee_speed.tmp"):
        (directory / f".vector_backup_check{name}").write_bytes(b"x")
    others = [".vector_backup_check_of_mine", ".vector_backup_check_4102444800_00c0ffee_run"]
    for name in others:
        (directory / name).write_bytes(b"x")

    storage(check)

    assert sorted(path.name for path in directory.iterdir()) == sorted(others)


def test_a_bucket_passes_and_its_clock_is_read(check: Checker, bucket: Bucket) -> None:
    report = check_storage(check.plan(None, root=ObjectRoot(bucket.url, "vector_bak")))
    assert [each.name for each in report.findings] == STEPS
    assert report.clock_ahead is not None
    assert abs(report.clock_ahead) < timedelta(seconds=30)
    assert bucket.all_keys() == []
