"""The truncate itself: what it checks before, and how it hears of a lost commit."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import DatabaseError, IntegrityError
from vector_backup_pipeline.engine.postgres import truncate
from vector_backup_pipeline.engine.postgres.snapshot import pin_snapshot
from vector_backup_pipeline.engine.postgres.truncate import check_before_truncate, truncate_tables
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS, count, settings_for
from vector_backup_pipeline_tests.fix_postgres import Database


def test_the_rows_after_are_told(langchain: Database) -> None:
    pinned = pin_snapshot(
        settings_for(langchain.url), [EMBEDDINGS], [EMBEDDINGS], workers=1, lock_timeout=1
    )
    check_before_truncate(pinned, {EMBEDDINGS: 58})
    assert truncate_tables(pinned, [EMBEDDINGS]) == {EMBEDDINGS: 0}
    pinned.close()
    assert count(langchain) == 0


@pytest.mark.parametrize("exported", [57, 59, 0])
def test_a_backup_of_another_number_of_rows_is_found_out(
    langchain: Database, exported: int
) -> None:
    pinned = pin_snapshot(
        settings_for(langchain.url), [EMBEDDINGS], [EMBEDDINGS], workers=1, lock_timeout=1
    )
    with pytest.raises(IntegrityError, match=f"58 rows but its backup has {exported}"):
        check_before_truncate(pinned, {EMBEDDINGS: exported})
    pinned.close()


def test_without_the_writers_lock_nothing_is_truncated(langchain: Database) -> None:
    pinned = pin_snapshot(settings_for(langchain.url), [EMBEDDINGS], [], workers=1, lock_timeout=1)
    with pytest.raises(IntegrityError, match="no longer holds its lock"):
        check_before_truncate(pinned, {EMBEDDINGS: 58})
    pinned.close()


def test_a_transaction_is_asked_for_until_the_server_is_back(
    langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([DatabaseError("starting up"), None, "in progress", "committed"])

    def ask(*_: object) -> str | None:
        answer = next(answers)
        if isinstance(answer, DatabaseError):
            raise answer
        return answer

    monkeypatch.setattr(truncate, "_ask_status", ask)
    monkeypatch.setattr(truncate, "_ASK_EVERY_SECONDS", 0)
    pinned = pin_snapshot(settings_for(langchain.url), [EMBEDDINGS], [], workers=1, lock_timeout=1)
    pinned.close()
    assert truncate._outcome(pinned.settings, pinned.server, "1") == "committed"


def test_the_server_knows_how_a_transaction_ended(langchain: Database) -> None:
    pinned = pin_snapshot(settings_for(langchain.url), [EMBEDDINGS], [], workers=1, lock_timeout=1)
    pinned.close()
    asked = (pinned.settings, pinned.server)
    with langchain.session() as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text")
        ((xid,),) = cursor.fetchall()
        assert truncate._ask_status(*asked, xid) == "in progress"
        session.commit()
        assert truncate._ask_status(*asked, xid) == "committed"
        cursor.execute("SELECT pg_current_xact_id()::text")
        ((xid,),) = cursor.fetchall()
        session.rollback()
        assert truncate._ask_status(*asked, xid) == "aborted"


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
