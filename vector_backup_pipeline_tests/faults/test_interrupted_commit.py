"""After an interrupt during the truncate's COMMIT, the outcome is reported correctly."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.errors import RunCancelled
from vector_backup_pipeline_tests.faults.watching import (
    EMBEDDINGS,
    count,
    in_background,
    interrupted,
    pinned_and_exported,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database

_LOCK = 4711
_LINGERING_SECONDS = 0.4
# PostgreSQL runs deferred constraint triggers inside COMMIT. This one waits for a lock, for at
# most half a minute.
_SLOW_COMMIT = f"""
    CREATE TABLE truncations (at timestamptz DEFAULT now());
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.truncations DEFAULT VALUES; RETURN NULL; END $$;
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            FOR i IN 1..3000 LOOP
                EXIT WHEN pg_try_advisory_xact_lock({_LOCK});
                PERFORM pg_sleep(0.01);
            END LOOP;
            RETURN NULL;
        END $$;
    CREATE TRIGGER note AFTER TRUNCATE ON langchain_pg_embedding EXECUTE FUNCTION note();
    CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON truncations
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
"""


def _manifest(backup: BackupMaker, stamp: str) -> str:
    return (backup.root / "vector_bak" / f"vector_backup_{stamp}.json").read_text()


def test_an_interrupt_during_commit_leaves_a_manifest_that_says_done(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run(_SLOW_COMMIT)
    run = backup.run(truncate_vector_tables=True)
    stamp = pinned_and_exported(run, langchain.url)

    with _interrupted_when_committing(langchain), interrupted():
        run.truncate()
    result = run.close()

    assert count(langchain) == 0
    assert result.truncate_performed
    assert result.truncate_results[EMBEDDINGS].success
    assert '"truncate": "done"' in _manifest(backup, stamp)


def test_an_interrupt_just_before_the_truncate_leaves_a_manifest_that_says_so(
    langchain: Database, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = backup.run(truncate_vector_tables=True)
    stamp = pinned_and_exported(run, langchain.url)
    prepare = BackupRun._prepare_truncate

    def prepare_and_interrupt(self: BackupRun) -> None:
        prepare(self)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BackupRun, "_prepare_truncate", prepare_and_interrupt)
    with interrupted():
        run.truncate()
    result = run.close()

    assert isinstance(run.error, RunCancelled)
    assert not result.truncate_performed
    assert count(langchain) == 58
    assert '"truncate": "not_truncated"' in _manifest(backup, stamp)


@contextmanager
def _interrupted_when_committing(database: Database) -> Iterator[None]:
    """Send SIGINT to the main thread during COMMIT, which waits for it."""
    over = threading.Event()
    with database.session() as holder, holder.cursor() as cursor:
        holder.autocommit = True
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        with in_background(lambda: _interrupt(cursor, over)):
            try:
                yield
            finally:
                over.set()


def _interrupt(cursor: Cursor, over: threading.Event) -> None:
    while not over.is_set():
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()"
        )
        if cursor.fetchone() != (0,):
            os.kill(os.getpid(), signal.SIGINT)
            over.wait(_LINGERING_SECONDS)
            cursor.execute("SELECT pg_advisory_unlock_all()")
            return
