"""Checks where something is broken on purpose: disks, balancers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.faults.proxy import LOOPBACK, proxy
from vector_backup_pipeline_tests.faults.test_disk import _as_somebody_else as as_somebody_else
from vector_backup_pipeline_tests.faults.test_disk import _mounted as mounted
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Checker
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child


def test_a_disk_without_room_fails_and_nothing_stays(langchain: Database, check: Checker) -> None:
    with mounted(check.root, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        found = check(langchain.url)
        left = check.paths

    assert found["storage: put"].status == "ok"
    assert found["storage: speed"].status == "failed"
    assert "No space left on device" in found["storage: speed"].message
    assert "VECTOR_BACKUP_ROOT" in str(found["storage: speed"].advice)
    assert found["space: free space"].status == "ok", "these tables would have room"
    assert left == []


def test_a_disk_too_small_for_the_next_backup_fails(langchain: Database, check: Checker) -> None:
    langchain.run(
        "INSERT INTO langchain_pg_embedding (id, document)"
        " SELECT 'more-' || i, repeat(md5(i::text), 40) FROM generate_series(1, 2000) i; ANALYZE"
    )
    with mounted(check.root, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        told = check(langchain.url)["space: free space"]

    assert told.status == "failed"
    assert "estimated from the tables" in told.message
    assert "Free space there" in str(told.advice)


def test_a_read_only_disk_fails(langchain: Database, check: Checker) -> None:
    (check.root / "vector_bak").mkdir()
    with mounted(check.root, "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs"):
        found = check(langchain.url)

    assert found["storage: directory"].status == "failed"
    assert "Read-only file system" in found["storage: directory"].message


def test_a_directory_one_may_not_write_to_fails_with_what_to_do(
    langchain: Database, check: Checker
) -> None:
    # Not pytest's own folder, which others may not even enter.
    with tempfile.TemporaryDirectory() as root:
        checker = replace(check, root=Path(root))
        Path(root).chmod(0o755)
        (Path(root) / "vector_bak").mkdir(mode=0o555)
        with as_somebody_else():
            found = checker(None)
        left = checker.paths

    assert found["storage: put"].status == "failed"
    assert "Permission denied" in found["storage: put"].message
    assert "Let this process's user write there" in str(found["storage: put"].advice)
    assert found["storage: run marker"].status == "failed"
    assert found["storage: list"].status == "skipped"
    assert left == ["vector_bak"]


def test_a_place_one_may_not_even_enter_fails_with_what_to_do(check: Checker) -> None:
    with tempfile.TemporaryDirectory() as closed:
        checker = replace(check, root=Path(closed) / "root")
        with as_somebody_else():
            found = checker(None)

    for place in ("storage: directory", "space: free space", "backups: newest"):
        assert found[place].status == "failed"
        assert "Permission denied" in found[place].message
        assert "Let this process's user write there" in str(found[place].advice)


@pytest.mark.parametrize("first_ones", [1, 2], ids=["coordinator", "workers"])
def test_a_balancer_that_leads_to_two_servers_is_found_out(
    langchain: Database, check: Checker, request: pytest.FixtureRequest, first_ones: int
) -> None:
    other = request.getfixturevalue("server16")
    other.create_database(langchain.name)
    for database in (langchain, Database(other, langchain.name)):
        database.run("ALTER ROLE postgres PASSWORD 'p'")
    with proxy(*[langchain.server.port] * first_ones, other.port) as proxied:
        url = f"postgresql://postgres:p@{LOOPBACK}:{proxied.port}/{langchain.name}"
        found = check(url)
    other.drop_database(langchain.name)

    failed = found.of_status("failed")
    if first_ones == 2:
        assert failed == ["database: workers"]
        assert "another server" in found["database: workers"].message
        assert "not to a balancer" in str(found["database: workers"].advice)
    else:
        assert "database: balancer" in failed


def test_ctrl_c_leaves_nothing_and_ends_with_130(langchain: Database, check: Checker) -> None:
    """Interrupted while the check waits for a lock on a table."""
    with langchain.session() as holder, holder.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {EMBEDDINGS} IN ACCESS EXCLUSIVE MODE")
        with child(
            [sys.executable, "-m", "vector_backup_pipeline.cli", "check", "--json"],
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
            out, _ = process.communicate(timeout=30)

    assert process.returncode == 130
    assert '"success": false' in out
    assert check.paths == []
