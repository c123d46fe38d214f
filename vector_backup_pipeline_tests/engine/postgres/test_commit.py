"""How a commit ended whose answer was lost."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres import commit
from vector_backup_pipeline.engine.postgres.snapshot import pin_snapshot
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS, settings_for
from vector_backup_pipeline_tests.fix_postgres import Database


def test_a_transaction_is_asked_for_until_the_server_is_back(
    langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([DatabaseError("starting up"), None, "in progress", "committed"])

    def ask(*_: object) -> str | None:
        answer = next(answers)
        if isinstance(answer, DatabaseError):
            raise answer
        return answer

    monkeypatch.setattr(commit, "_ask_status", ask)
    monkeypatch.setattr(commit, "_ASK_EVERY_SECONDS", 0)
    pinned = pin_snapshot(settings_for(langchain.url), [EMBEDDINGS], [], workers=1, lock_timeout=1)
    pinned.close()
    assert commit._outcome(pinned.settings, pinned.server, "1") == "committed"


def test_the_server_knows_how_a_transaction_ended(langchain: Database) -> None:
    pinned = pin_snapshot(settings_for(langchain.url), [EMBEDDINGS], [], workers=1, lock_timeout=1)
    pinned.close()
    asked = (pinned.settings, pinned.server)
    with langchain.session() as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text")
        ((xid,),) = cursor.fetchall()
        assert commit._ask_status(*asked, xid) == "in progress"
        session.commit()
        assert commit._ask_status(*asked, xid) == "committed"
        cursor.execute("SELECT pg_current_xact_id()::text")
        ((xid,),) = cursor.fetchall()
        session.rollback()
        assert commit._ask_status(*asked, xid) == "aborted"


@pytest.mark.parametrize(
    "differs",
    [
        {"system_identifier": "another"},
        {"timeline": 2},
        {"database": "another"},
        {"in_recovery": True},
    ],
)
def test_only_the_primary_that_committed_is_believed(
    langchain: Database, differs: dict[str, Any]
) -> None:
    pinned = pin_snapshot(settings_for(langchain.url), [], [], workers=1, lock_timeout=1)
    pinned.close()
    server = pinned.server
    restarted = replace(server, started_at=server.started_at + timedelta(seconds=5))
    assert restarted.continues(server)
    assert not replace(server, **differs).continues(server)

    nameless = replace(server, system_identifier=None)
    assert nameless.continues(nameless)
    assert not replace(restarted, system_identifier=None).continues(nameless)
