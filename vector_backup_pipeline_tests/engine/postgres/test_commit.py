"""A COMMIT whose reply is lost: the server is queried for its outcome."""

from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg2
import pytest

from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres import commit
from vector_backup_pipeline.engine.postgres.commit import commit_or_learn
from vector_backup_pipeline.engine.postgres.connection import connect, connect_to_write
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline_tests.faults.watching import count
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

SERVER = ServerIdentity(
    version="18.0",
    version_num=180000,
    encoding="UTF8",
    database="db",
    started_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    in_recovery=False,
    system_identifier="7",
    timeline=1,
    pgvector_version=None,
    database_oid=16384,
)


def replace(server: ServerIdentity, **values: Any) -> ServerIdentity:
    return server.model_copy(update=values)


@pytest.mark.parametrize("has_happened", [True, False])
def test_a_lost_reply_is_found_out_once_the_server_answers_again(
    langchain: Database, monkeypatch: pytest.MonkeyPatch, has_happened: bool
) -> None:
    settings = settings_for(langchain.url)
    refusals = [DatabaseError("starting up")]

    def connect_later(*arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return connect(*arguments)

    monkeypatch.setattr(commit, "connect", connect_later)
    monkeypatch.setattr(commit, "_ASK_EVERY_SECONDS", 0)
    with closing(connect_to_write(settings)) as connection, connection.cursor() as cursor:
        server = identify_server(cursor)
        cursor.execute("DELETE FROM langchain_pg_embedding")
        really_commit = connection.commit

        def lose_reply() -> None:
            if has_happened:
                really_commit()
            raise psycopg2.OperationalError("lost")

        connection.commit = lose_reply  # type: ignore[method-assign]
        if has_happened:
            commit_or_learn(connection, settings, server, "unknown")
        else:
            with pytest.raises(psycopg2.OperationalError, match="lost"):
                commit_or_learn(connection, settings, server, "unknown")

    assert count(langchain) == (0 if has_happened else 58)
    assert refusals == []


@pytest.mark.parametrize(
    "difference",
    [
        {"system_identifier": "another"},
        {"timeline": 2},
        {"database": "another"},
        {"in_recovery": True},
    ],
)
def test_only_the_primary_that_committed_is_believed(difference: dict[str, Any]) -> None:
    assert SERVER.started_at is not None
    restarted = replace(SERVER, started_at=SERVER.started_at + timedelta(seconds=5))
    assert restarted.continues(SERVER)
    assert not restarted.is_same_process_as(SERVER)
    # A replica, or a clone, whose snapshots may have the same names.
    assert not replace(SERVER, in_recovery=True).is_same_process_as(SERVER)
    assert not replace(SERVER, **difference).continues(SERVER)

    nameless = replace(SERVER, system_identifier=None)
    assert nameless.continues(nameless)
    assert not replace(restarted, system_identifier=None).continues(nameless)
