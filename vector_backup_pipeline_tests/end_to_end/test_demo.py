"""`vector-backup demo`: again and again, and never on the user's own database."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_process import child

pytest.importorskip("langchain_postgres")


@pytest.mark.parametrize("flag", ["--port", "--api-port"])
def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path, flag: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        with _demo(tmp_path, "--ui", flag, port) as refused:
            _, err = refused.communicate(timeout=30)

    assert refused.returncode == 2
    assert f"port {port}" in err
    assert flag in err
    assert not list(tmp_path.iterdir())


def _demo(directory: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = "from vector_backup_pipeline.cli import main; main()"
    return child(
        [sys.executable, "-c", command, "demo", "--directory", str(directory), *arguments],
        # A user's own settings, which would break the run if they were used.
        env=os.environ
        | {
            "PYTHONPATH": str(CHECKOUT),
            "VECTOR_BACKUP_DB_URL": "postgresql://u@127.0.0.1:1/not_the_demos",
            "VECTOR_BACKUP_ROOT": "/not/the/demos",
            "VECTOR_BACKUP_TABLES": "not_the_demos",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _backups(directory: Path) -> list[Path]:
    return list(directory.glob("training_data/vector_bak/vector_backup_*[0-9].json"))


def test_it_works_again_and_again_and_after_it_was_killed(tmp_path: Path) -> None:
    with _demo(tmp_path) as killed:
        for line in killed.stderr or ():
            if "documents" in line:  # The server is up and full, the backup begins.
                break
        killed.send_signal(signal.SIGKILL)
        killed.wait()

    before = len(_backups(tmp_path))
    with _demo(tmp_path) as done:
        out, err = done.communicate(timeout=100)

    assert done.returncode == 0, err
    assert re.search(r"✓ langchain_pg_embedding: \d{3,} rows", out)
    assert "restored and proven" in out
    assert "make ui" in out
    assert f"VECTOR_BACKUP_ROOT={tmp_path / 'training_data'} " in out
    assert len(_backups(tmp_path)) == before + 1
    assert not list(tmp_path.rglob("*.tmp"))
