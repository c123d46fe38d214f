"""The terminal door to restore and verify."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child
from vector_backup_pipeline_tests.fix_terminal import Terminal
from vector_backup_pipeline_tests.jobs.test_restore_job import RESULT_KEYS

PASSWORD = "a secret, 100% 'so'"


@pytest.fixture
def backed_up(installed: Database, terminal: Terminal) -> Database:
    assert terminal("backup").code == 0
    return installed


def count(database: Database) -> int:
    return int(database.ask_one("SELECT count(*) FROM langchain_pg_embedding"))


def test_a_restore_shows_what_it_proved_and_ends_with_0(
    backed_up: Database, terminal: Terminal
) -> None:
    backed_up.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    called = terminal("restore", "--timestamp", "latest")

    assert called.code == 0
    assert "✓ langchain_pg_embedding: 58 rows <- langchain_pg_embedding_" in called.out
    assert "content digest proven" in called.out
    assert count(backed_up) == 58


def test_json_is_the_result_in_its_order_and_nothing_else(
    backed_up: Database, terminal: Terminal
) -> None:
    called = terminal("restore", "--timestamp", "latest", "--truncate-before-restore", "--json")

    assert called.code == 0
    assert list(called.document) == RESULT_KEYS
    assert called.document["truncate_results"]["langchain_pg_embedding"]["rows_before"] == 58


def test_a_failed_restore_ends_with_1_and_tells_the_whole_result(
    backed_up: Database, terminal: Terminal
) -> None:
    called = terminal("restore", "--timestamp", "latest", "--json")

    assert called.code == 1
    assert list(called.document) == ["success", "error_type", "message", "can_retry", "data"]
    assert called.document["error_type"] == "DATABASE_ERROR"
    assert called.document["can_retry"] is False
    assert called.document["data"]["restore_performed"] is False


@pytest.mark.parametrize(
    ("arguments", "error_type"),
    [
        ([], "MISSING_REQUIRED_PARAMS"),
        (["--timestamp", "yesterday"], "INVALID_PARAMS"),
        (["--timestamp", "latest", "--rename", "a"], "INVALID_PARAMS"),
        (["--timestamp", "latest", "--on-conflict", "ignore"], "INVALID_PARAMS"),
        (
            ["--timestamp", "latest", "--collections", "a", "--truncate-before-restore"],
            "INVALID_PARAMS",
        ),
        (["--timestamp", "latest", "--workers", "0"], "INVALID_PARAMS"),
        (["--timestamp", "latest", "--no-such-flag"], "INVALID_PARAMS"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("backed_up")
def test_bad_parameters_end_with_2(
    terminal: Terminal, arguments: list[str], error_type: str
) -> None:
    called = terminal("restore", *arguments, "--json")

    assert called.code == 2
    assert called.document["error_type"] == error_type


def test_every_flag_reaches_the_restore(backed_up: Database, terminal: Terminal) -> None:
    called = terminal(
        *("restore", "--timestamp", "latest", "--backup-path", "training_data/vector_bak"),
        *("--tables", "langchain_pg_collection,langchain_pg_embedding"),
        *("--collections", "collection 1,collection 2", "--on-conflict", "replace"),
        *("--rename", "langchain_pg_collection=rescued.collections"),
        *("--rename", "langchain_pg_embedding=rescued.embeddings"),
        *("--workers", "1", "--maintenance-work-mem", "64MB", "--probes", "0"),
        *("--max-parallel-maintenance-workers", "0", "--progress-every", "10"),
        "--fire-triggers",
        "--json",
    )

    assert called.code == 0, called.out
    assert backed_up.ask("SELECT name FROM rescued.collections ORDER BY 1") == [
        ("collection 1",),
        ("collection 2",),
    ]
    assert called.document["recall_at_10"] == []


def test_a_connection_string_is_handed_over_by_name_and_never_shown(
    backed_up: Database, terminal: Terminal, dagster_home: Path
) -> None:
    role = f"restores_{backed_up.name}"
    url = backed_up.create_role(role, PASSWORD)

    called = terminal("restore", "--timestamp", "latest", "--db-connection", url)

    assert called.code == 1
    assert "PERMISSION_DENIED" in called.err
    stored = b"".join(path.read_bytes() for path in dagster_home.rglob("*") if path.is_file())
    assert b"VECTOR_BACKUP_RUN_CONNECTION" in stored
    for text in (called.out, called.err, stored.decode(errors="replace")):
        assert "a secret" not in text
        assert "a%20secret" not in text


@pytest.mark.usefixtures("backed_up")
def test_verify_says_what_it_read(terminal: Terminal) -> None:
    called = terminal("verify")

    assert called.code == 0
    assert "hash, rows and digest equal" in called.out
    assert "1 of 1 sets passed" in called.out


@pytest.mark.usefixtures("backed_up")
def test_verify_ends_with_1_where_a_byte_is_wrong(terminal: Terminal, root: Path) -> None:
    (file,) = (root / "vector_bak").glob("langchain_pg_embedding_*.csv")
    file.write_bytes(file.read_bytes().replace(b"document 7", b"document 8"))

    called = terminal("verify", "--json")

    assert called.code == 1
    assert called.document["error_type"] == "INTEGRITY_ERROR"
    assert called.document["data"]["verified"] is False


def test_a_restore_that_is_ended_by_the_system_leaves_the_target_as_it_was(
    backed_up: Database, root: Path
) -> None:
    with backed_up.session() as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE langchain_pg_collection IN ROW EXCLUSIVE MODE")
        with child(
            [
                *(sys.executable, "-c", "from vector_backup_pipeline.cli import main; main()"),
                *("restore", "--timestamp", "latest", "--truncate-before-restore", "--json"),
            ],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT), "VECTOR_BACKUP_ROOT": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            _wait_for_a_waiting_lock(backed_up)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert json.loads(out)["data"]["restore_performed"] is False
    assert json.loads(out)["error_type"] == "RUN_CANCELED"
    assert count(backed_up) == 58
    log = (root / "vector_bak" / "vector_backup_log.txt").read_text()
    assert "CANCELED" in log


def _wait_for_a_waiting_lock(database: Database) -> None:
    for _ in range(600):
        if database.ask_one("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            return
        time.sleep(0.05)
    raise AssertionError("Nobody waits for a lock.")
