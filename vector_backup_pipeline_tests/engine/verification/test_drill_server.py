"""The server of a restore test is removed at its end, or by the next one if it was killed."""

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

import psycopg2
import pytest

from vector_backup_pipeline.drill_server import embedded_drill_server
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline_tests.fix_process import child, hears, is_alive

_PROGRAM = """
import sys
from vector_backup_pipeline.drill_server import embedded_drill_server
with embedded_drill_server():
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for temporary files, in this process."""
    # Not pytest's own: it closes its folders to other users, the server's among them.
    path = Path(tempfile.mkdtemp(prefix="vbp-"))
    path.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def killed(folder: Path) -> int:
    """The pid of the server of a restore test that was killed."""
    with child(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as drill:
        assert hears(drill) == "ready"
        (pid_file,) = folder.glob("*/data/postmaster.pid")
        drill.send_signal(signal.SIGKILL)
        drill.wait()
    return int(pid_file.read_text().split("\n")[0])


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


def test_a_restore_test_removes_what_killed_ones_left_and_nothing_else(
    folder: Path, killed: int
) -> None:
    (left,) = folder.iterdir()
    new = made(folder, "vector-backup-drill-new", age=60)
    old = made(folder, "vector-backup-drill-old", age=4000)
    other = made(folder, "vector-backup-else", age=4000)
    of_another_user = made(folder, "vector-backup-drill-others", age=4000)
    if os.geteuid() == 0:
        os.chown(of_another_user, 65534, 65534)
    else:
        of_another_user.rmdir()
    assert is_alive(killed)

    with embedded_drill_server() as first:
        assert not is_alive(killed)
        assert not (left.exists() or old.exists())
        assert new.exists()
        assert other.exists()
        assert of_another_user.exists() == (os.geteuid() == 0)
        # Not in a container's small /dev/shm.
        assert ask(first, "SHOW dynamic_shared_memory_type") == ("mmap",)
        with embedded_drill_server() as second:
            assert ask(first) == ask(second) == (1,)
        assert ask(first) == (1,)
    assert set(folder.iterdir()) <= {new, other, of_another_user}


def test_a_temporary_directory_that_does_not_exist_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "not_there"))

    with pytest.raises(StorageError, match="TMPDIR"), embedded_drill_server():
        pass
