"""Dry runs with faults: full disks, load balancers, signals."""

import os
import signal
import subprocess
import sys

import pytest

from vector_backup_pipeline_tests.faults.test_disk import _mounted as mounted
from vector_backup_pipeline_tests.faults.watching import MORE_ROWS
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Checker
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child


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


def test_ctrl_c_leaves_nothing_and_ends_with_130(langchain: Database, check: Checker) -> None:
    """Interrupted while the check waits for a lock on a table."""
    with langchain.session() as holder, holder.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {EMBEDDINGS} IN ACCESS EXCLUSIVE MODE")
        with child(
            [sys.executable, "-m", "vector_backup_pipeline.cli", "check"],
            env={
                **os.environ,
                "PYTHONPATH": str(CHECKOUT),
                "VECTOR_BACKUP_DB_URL": langchain.url,
                "VECTOR_BACKUP_ROOT": str(check.root / "backups"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            while not langchain.ask_one("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "RUN_CANCELED" in err
    assert "storage" not in out, "nothing more is tried"
    assert check.paths == []
