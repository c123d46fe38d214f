"""The drill's own server: a killed drill's is swept away by the next one, a living one's never."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from vector_backup_pipeline.drill_server import embedded_drill_server
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline_tests.fix_process import child, hears

_PROGRAM = """
import sys
from vector_backup_pipeline.drill_server import embedded_drill_server
with embedded_drill_server():
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder of every drill here."""
    # Not pytest's own: it closes its folders to other users, the server's among them.
    path = Path(tempfile.mkdtemp(prefix="vbp-"))
    path.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def killed(folder: Path) -> psutil.Process:
    """The server of a drill that was killed."""
    with child(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as drill:
        assert hears(drill) == "ready"
        (pid_file,) = folder.glob("*/postgres/data/postmaster.pid")
        drill.send_signal(signal.SIGKILL)
        drill.wait()
    return psutil.Process(int(pid_file.read_text().split("\n")[0]))


def is_alive(process: psutil.Process) -> bool:
    # In a container nobody may reap a process whose parent is gone.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def ask(connection_string: str, query: str = "SELECT 1") -> object:
    with (
        closing(psycopg2.connect(connection_string)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        return cursor.fetchone()


def made(folder: Path, name: str, *, age: float) -> Path:
    path = folder / name
    path.mkdir()
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_next_drill_stops_and_removes_what_a_killed_one_left(
    folder: Path, killed: psutil.Process
) -> None:
    (left,) = folder.iterdir()
    assert is_alive(killed)

    with embedded_drill_server() as server:
        assert not left.exists()
        assert not is_alive(killed)
        # Not in a container's small /dev/shm.
        assert ask(server, "SHOW dynamic_shared_memory_type") == ("mmap",)
    assert list(folder.iterdir()) == []


def test_a_living_drill_is_left_alone(folder: Path) -> None:
    with embedded_drill_server() as first:
        with embedded_drill_server() as second:
            assert ask(first) == ask(second) == (1,)
        assert ask(first) == (1,)
    assert list(folder.iterdir()) == []


def test_a_folder_without_a_lock_is_a_dead_drills_only_after_an_hour(folder: Path) -> None:
    new = made(folder, "vector-backup-drill-new", age=60)
    old = made(folder, "vector-backup-drill-old", age=4000)
    other = made(folder, "vector-backup-else", age=4000)

    with embedded_drill_server():
        assert (new.exists(), old.exists(), other.exists()) == (True, False, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes other users' folders")
def test_another_users_folder_is_left_alone(folder: Path) -> None:
    others = made(folder, "vector-backup-drill-others", age=4000)
    os.chown(others, 65534, 65534)

    with embedded_drill_server():
        assert others.exists()


def test_a_sweep_that_fails_fails_no_drill(
    folder: Path, killed: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    (left,) = folder.iterdir()

    def refuses(*_: object) -> None:
        raise RuntimeError("no sweep today")

    with monkeypatch.context() as broken:
        broken.setattr("vector_backup_pipeline.embedded.cluster.locate_cluster", refuses)
        broken.setattr("vector_backup_pipeline.drill_server._stop_unused", refuses)
        with embedded_drill_server() as server:
            assert ask(server) == (1,)
    assert left.exists()
    with embedded_drill_server():
        assert not is_alive(killed)


def test_no_place_for_a_server_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "not_there"))

    with pytest.raises(StorageError, match="TMPDIR"), embedded_drill_server():
        pass
