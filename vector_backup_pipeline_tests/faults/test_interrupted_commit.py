"""An interrupt that comes while the truncate commits does not blur what happened."""

import os
import signal
import threading
import time

import pytest

from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database

# PostgreSQL runs deferred constraint triggers inside COMMIT: here one that takes its time.
_SLOW_COMMIT = """
    CREATE TABLE truncations (at timestamptz DEFAULT now());
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.truncations DEFAULT VALUES; RETURN NULL; END $$;
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END $$;
    CREATE TRIGGER note AFTER TRUNCATE ON langchain_pg_embedding EXECUTE FUNCTION note();
    CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON truncations
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
"""


def test_an_interrupt_during_commit_leaves_a_manifest_that_says_done(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run(_SLOW_COMMIT)
    settings = ConnectionSettings.from_installation(SecretText(langchain.url), "the test")
    run = backup.run(truncate_vector_tables=True)
    stamp = run.resolve().timestamp
    run.pin(lambda: settings)
    for table in LANGCHAIN:
        run.export(table, lambda _: None)

    interrupter = threading.Thread(target=_interrupt_when_committing, args=(langchain,))
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        run.truncate()
    interrupter.join()
    result = run.close()

    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 0
    assert result.truncate_performed
    assert result.truncate_results["langchain_pg_embedding"].success
    manifest = (backup.root / "vector_bak" / f"vector_backup_{stamp}.json").read_text()
    assert '"truncate": "done"' in manifest


def _interrupt_when_committing(database: Database) -> None:
    committing = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()"
    )
    deadline = time.monotonic() + 60
    with database.session() as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while time.monotonic() < deadline:
            cursor.execute(committing)
            if cursor.fetchone() != (0,):
                os.kill(os.getpid(), signal.SIGINT)
                return
