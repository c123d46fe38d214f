"""Servers that are unreachable, refuse, stop or change: correct errors, and nothing left behind."""

import contextlib
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator

import pytest

from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres import ranges, snapshot
from vector_backup_pipeline.engine.postgres.connection import connect
from vector_backup_pipeline.engine.progress import Progress, ProgressListener
from vector_backup_pipeline_tests.faults.proxy import LOOPBACK, proxy
from vector_backup_pipeline_tests.faults.watching import (
    COLLECTIONS,
    EMBEDDINGS,
    all_that_it_tells,
    count,
    error_type,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

_PASSWORD = "hunter2 is/secret"
_OURS = "datname = current_database() AND application_name = 'vector_backup_pipeline'"
# The first connection.
_COORDINATOR = f"backend_start = (SELECT min(backend_start) FROM pg_stat_activity WHERE {_OURS})"  # noqa: S608


@pytest.fixture
def several_workers(langchain: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """LangChain's tables with enough embeddings for two workers."""
    langchain.run(
        "INSERT INTO langchain_pg_embedding (id, document)"
        " SELECT 'more-' || i, repeat(md5(i::text), 40) FROM generate_series(1, 6000) i"
    )
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 1 << 16)
    return langchain


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A listener that accepts connections and sends nothing."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def closed_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _assert_not_started(made: FinishedBackup, error: str, *, can_retry: bool) -> None:
    assert error_type(made.error) == error
    assert made.error is not None
    assert made.error.can_retry is can_retry
    assert not made.result.backup_performed
    assert made.names == ["vector_backup_log.txt"]
    log = (made.directory / "vector_backup_log.txt").read_text()
    assert f"FAILED ({error})" in log
    for text in (log, all_that_it_tells(made.error), made.result.model_dump_json()):
        assert "hunter2" not in text


@pytest.mark.parametrize("encryption", ["scram-sha-256", "md5"])
def test_a_wrong_password_is_the_servers_refusal_and_no_retry_helps(
    langchain: Database, backup: BackupMaker, closed_port: int, encryption: str
) -> None:
    langchain.run("DROP ROLE IF EXISTS knows_better")
    langchain.run(f"SET password_encryption = '{encryption}'; CREATE ROLE knows_better LOGIN")
    langchain.run(f"SET password_encryption = '{encryption}'; ALTER ROLE knows_better PASSWORD 'x'")

    made = backup(langchain.url_as("knows_better", _PASSWORD))
    _assert_not_started(made, "DATABASE_ERROR", can_retry=False)

    hosts = f"host={LOOPBACK},{LOOPBACK} port={closed_port},{langchain.server.port}"
    made = backup(f"{hosts} user=knows_better password=hunter2 dbname=postgres")
    _assert_not_started(made, "DATABASE_ERROR", can_retry=False)


@pytest.mark.parametrize(
    "address",
    [
        f"host={LOOPBACK} port={{closed}}",
        "host=nowhere.invalid",
        "host=/nowhere",
        # libpq's minimum is 2 seconds.
        f"host={LOOPBACK} port={{silent}} connect_timeout=2",
    ],
    ids=["closed port", "unknown name", "no socket", "silence"],
)
def test_without_a_server_the_service_is_unavailable(
    backup: BackupMaker, closed_port: int, silent_port: int, address: str
) -> None:
    where = address.format(closed=closed_port, silent=silent_port)

    made = backup(f"{where} user=u password=hunter2 dbname=db")

    _assert_not_started(made, "SERVICE_UNAVAILABLE", can_retry=True)


@pytest.mark.parametrize("asks_for_password", [True, False])
def test_a_refusal_is_recognized_in_any_language(asks_for_password: bool) -> None:
    """Severity and message are in another language, and in another encoding. A server that is full
    or starting up does not ask for a password."""
    with (
        _refusing_server("致命错误", "无法连接", asks_for_password) as port,
        pytest.raises(DatabaseError) as caught,
    ):
        connect(settings_for(f"postgresql://u:hunter2@{LOOPBACK}:{port}/db"))

    assert caught.value.can_retry is not asks_for_password
    assert "hunter2" not in all_that_it_tells(caught.value)


@contextlib.contextmanager
def _refusing_server(severity: str, message: str, asks_for_password: bool) -> Iterator[int]:
    """Refuses every login, like a server with the encoding GB18030."""
    fields = b"".join(
        key + text.encode("gb18030") + b"\0"
        for key, text in ((b"S", severity), (b"C", "53300"), (b"M", message))
    )
    refusal = b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"

    class Refuse(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(1024) == struct.pack("!ii", 8, 80877103):  # SSLRequest
                self.request.sendall(b"N")
                self.request.recv(1024)
            if asks_for_password:
                self.request.sendall(b"R" + struct.pack("!ii", 8, 3))  # in clear text
                self.request.recv(1024)
            self.request.sendall(refusal)

    with socketserver.ThreadingTCPServer((LOOPBACK, 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def test_workers_that_land_on_another_server_are_found_out(
    several_workers: Database, backup: BackupMaker, server16_port: int
) -> None:
    with proxy(several_workers.server.port, server16_port) as proxied:
        made = backup(proxied.url(several_workers))

    assert error_type(made.error) == "DATABASE_ERROR"
    assert "another server" in str(made.error)
    assert not made.result.backup_performed
    wait_until_nothing_is_open(several_workers)


def _terminating(database: Database, condition: str) -> ProgressListener:
    """Terminates sessions of the run during the export of the embeddings."""
    done: list[bool] = []

    def terminate(moment: Progress) -> None:
        if moment.table == EMBEDDINGS and not done:
            done.append(True)
            database.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"  # noqa: S608
                f" WHERE {_OURS} AND {condition}"
            )

    return terminate


@pytest.mark.parametrize("method", ["copy", "cursor"])
def test_a_worker_that_is_terminated_fails_its_table_and_leaves_no_file(
    several_workers: Database, backup: BackupMaker, method: str
) -> None:
    made = backup(
        several_workers.url,
        _terminating(several_workers, f"NOT ({_COORDINATOR})"),
        tables=(EMBEDDINGS, COLLECTIONS),
        truncate_vector_tables=True,
        export_method=method,
    )

    assert error_type(made.error) == "DATABASE_ERROR"
    assert made.error is not None
    assert made.error.can_retry
    assert "administrator command" in made.error.message
    assert not made.manifest.complete
    assert not [name for name in made.names if name.startswith(EMBEDDINGS)]
    assert made.file(COLLECTIONS).rows == 4, "the other table has its turn"
    assert count(several_workers) == 6058
    wait_until_nothing_is_open(several_workers)


def test_a_coordinator_that_is_terminated_leaves_the_backup_whole(
    several_workers: Database, backup: BackupMaker
) -> None:
    made = backup(several_workers.url, _terminating(several_workers, _COORDINATOR))

    assert made.error is None
    assert made.manifest.complete
    assert made.file(EMBEDDINGS).rows == 6058
    wait_until_nothing_is_open(several_workers)


@pytest.mark.parametrize(
    ("pool_size", "used"), [(2, "1 of 4 workers"), (1, r"one stream \(0 workers\)")]
)
def test_a_pool_that_is_too_small_for_all_workers_is_used_as_far_as_it_goes(
    several_workers: Database,
    backup: BackupMaker,
    monkeypatch: pytest.MonkeyPatch,
    pool_size: int,
    used: str,
) -> None:
    monkeypatch.setattr(snapshot, "WORKER_PATIENCE_SECONDS", 0.2)
    with proxy(several_workers.server.port, pool_size=pool_size) as pooler:
        made = backup(pooler.url(several_workers), workers=4)

    assert made.error is None
    assert made.manifest.complete
    (notice,) = made.result.notices
    assert re.search(f"{used}.*pooler.*--workers 1", notice)
    assert notice in (made.directory / "vector_backup_log.txt").read_text()
    wait_until_nothing_is_open(several_workers)
