"""Dry runs with faults: full disks, load balancers, signals."""

import os
import signal
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.faults.test_disk import _mounted as mounted
from vector_backup_pipeline_tests.faults.watching import (
    MORE_ROWS,
    holding,
    in_background,
    wait_for_a_waiting_lock,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Checker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_terminal import Terminal


def test_a_disk_too_small_for_the_next_backup_fails(langchain: Database, check: Checker) -> None:
    langchain.run(MORE_ROWS)
    with mounted(check.root, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        report = check(langchain.url)
        left = check.paths

    assert report["storage: delete"].status == "ok"
    assert report.of_status("failed") == ["space: free space"]
    assert left == []


@pytest.mark.parametrize(
    ("options", "step", "message"),
    [("size=4k", "put", "No space left"), ("ro,size=64k", "directory", "Read-only file system")],
)
def test_a_full_or_read_only_disk_fails(
    check: Checker, options: str, step: str, message: str
) -> None:
    with mounted(check.root, "-t", "tmpfs", "-o", options, "tmpfs"):
        report = check()
        left = check.paths

    assert report[f"storage: {step}"].status == "failed"
    assert message in report[f"storage: {step}"].message
    assert left == []


def test_ctrl_c_leaves_nothing_and_ends_with_130(
    installed: Database, terminal: Terminal, root: Path
) -> None:
    """Interrupted while the check waits for a lock on a table."""

    def interrupt() -> None:
        wait_for_a_waiting_lock(installed)
        os.kill(os.getpid(), signal.SIGINT)

    with holding(installed, f"LOCK TABLE {EMBEDDINGS}"), in_background(interrupt):
        called = terminal("check")

    assert called.code == 130
    assert "RUN_CANCELED" in called.err
    assert "storage" not in called.out, "nothing more is tried"
    assert list(root.iterdir()) == []
    wait_until_nothing_is_open(installed)
