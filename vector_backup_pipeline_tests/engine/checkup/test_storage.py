"""The storage side of a dry run, which leaves nothing behind; free space and clocks."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.checkup import check_clock, check_space
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.fix_checkup import Checker
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_sets import SetWriter

STEPS = [f"storage: {name}" for name in ("run marker", "put", "list", "get", "delete")]
GB = 1 << 30


class ChangedRoot(BackupRoot):
    """A root in whose directory `changed` is called after `method`; it may return another value."""

    def __init__(self, root: Path, method: str, changed: Callable[[], Any]) -> None:
        super().__init__(str(root), "vector_bak")
        self._method, self._changed = method, changed

    def open(self, task_id: str | None) -> BackupDirectory:
        directory = super().open(task_id)
        original = getattr(directory, self._method)

        def method(*arguments: Any, **options: Any) -> Any:
            value = original(*arguments, **options)
            return value if (instead := self._changed()) is None else instead

        setattr(directory, self._method, method)
        return directory


@pytest.mark.parametrize("parents", ["", "a/b"])
def test_a_missing_directory_is_missing_afterwards(check: Checker, parents: str) -> None:
    root = BackupRoot(str(check.root / parents), "vector_bak")

    report = check(root=root)

    assert [key for key in report.of_status("ok") if key in STEPS] == STEPS
    assert check.paths == []


def test_an_existing_directory_stays_as_it_was(check: Checker) -> None:
    SetWriter(check.root / "vector_bak").write("20250101_000000")
    before = check.paths

    assert check()["storage: delete"].status == "ok"
    assert check.paths == before


def test_the_directory_of_the_task_is_tried(check: Checker) -> None:
    (check.root / "corpus_7").mkdir()

    report = check(task_id="corpus_7")

    assert report["storage: directory"].message == str(check.root / "corpus_7" / "vector_bak")
    assert check.paths == ["corpus_7"]
    assert "does not exist" in check(task_id="nope")["storage: directory"].message
    assert check.paths == ["corpus_7"]


def test_a_directory_that_is_a_file_fails(check: Checker) -> None:
    (check.root / "vector_bak").write_text("no directory")

    assert check()["storage: directory"].status == "failed"
    assert (check.root / "vector_bak").read_text() == "no directory"


@pytest.mark.parametrize(
    ("method", "value", "step", "message"),
    [
        ("claim_is_alive", False, "run marker", "is not recognized as that of a live run"),
        ("read", iter([b"something else"]), "get", "is damaged"),
    ],
)
def test_a_store_that_breaks_a_promise_fails(
    check: Checker, method: str, value: object, step: str, message: str
) -> None:
    report = check(root=ChangedRoot(check.root, method, lambda: value))

    assert report[f"storage: {step}"].status == "failed"
    assert message in report[f"storage: {step}"].message
    assert check.paths == []


def test_a_file_that_is_not_listed_or_deleted_fails(
    check: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = BackupDirectory.names
    monkeypatch.setattr(
        BackupDirectory, "names", lambda self: [n for n in names(self) if n.endswith(".run")]
    )
    assert "is not listed" in check()["storage: list"].message
    assert check.paths == []

    def refuse(_: BackupDirectory, name: str) -> None:
        raise StorageError(f"Could not remove {name}: Operation not permitted.")

    monkeypatch.setattr(BackupDirectory, "names", names)
    monkeypatch.setattr(BackupDirectory, "delete", refuse)
    assert "Operation not permitted" in check()["storage: delete"].message


@pytest.mark.parametrize("method", ["claim_is_alive", "create", "read", "delete"])
def test_an_interrupt_at_any_step_leaves_nothing(check: Checker, method: str) -> None:
    interrupts = iter([KeyboardInterrupt()])

    def interrupt() -> None:
        for error in interrupts:
            raise error

    with pytest.raises(KeyboardInterrupt):
        check(root=ChangedRoot(check.root, method, interrupt))

    assert check.paths == []


def test_a_bucket_passes_and_nothing_stays(check: Checker, bucket: Bucket) -> None:
    report = check(root=BackupRoot(bucket.url, "vector_bak"))

    assert [key for key in report.of_status("ok") if key in STEPS] == STEPS
    assert report["clock: storage"].status == "ok"
    assert bucket.all_keys() == []


@pytest.mark.parametrize(
    ("free", "expected", "status"),
    [
        (10 * GB, 4 * GB, "ok"),
        (10 * GB, 6 * GB, "warning"),
        (10 * GB, 11 * GB, "failed"),
        (10 * GB, None, "skipped"),
        (None, 11 * GB, "ok"),
    ],
)
def test_the_free_space_is_compared_with_the_next_backup(
    monkeypatch: pytest.MonkeyPatch, free: int | None, expected: int | None, status: str
) -> None:
    monkeypatch.setattr(BackupRoot, "free_bytes", lambda _: free)

    finding = check_space(BackupRoot("/srv/backups", "vector_bak"), expected)

    assert finding.status == status
    assert ("VECTOR_BACKUP_ROOT" in str(finding.advice)) == (status in ("failed", "warning"))


@pytest.mark.parametrize(
    ("seconds", "status", "message"),
    [(2, "ok", "agrees"), (20, "warning", "ahead of"), (-1200, "failed", "behind")],
)
def test_a_clock_that_is_off_is_reported(seconds: int, status: str, message: str) -> None:
    finding = check_clock("server", "database server", timedelta(seconds=seconds))

    assert finding.status == status
    assert message in finding.message
    assert (finding.advice is None) == (status == "ok")
