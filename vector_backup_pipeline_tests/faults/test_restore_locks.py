"""Locks of other sessions, and concurrent restores: bounded waits, no mixed results."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import RunCancelled
from vector_backup_pipeline.engine.postgres.staging import staging_name
from vector_backup_pipeline.engine.restore.target import Target
from vector_backup_pipeline_tests.faults.watching import (
    COLLECTIONS,
    EMBEDDINGS,
    JOIN_SECONDS,
    count,
    holding,
    in_background,
    interrupted,
    meeting,
    wait_for_a_waiting_lock,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    FinishedRestore,
    RestoreMaker,
    everything_in,
    kept_from_locking,
    rows_of,
    staging_schemas,
    untouched,
)


@pytest.fixture
def hurried(restore: RestoreMaker) -> RestoreMaker:
    restore.lock_timeout = 0.2
    return restore


def test_the_wait_for_a_writer_is_limited(corpus: Database, hurried: RestoreMaker) -> None:
    with kept_from_locking(corpus, EMBEDDINGS):
        words = "VECTOR_BACKUP_LOCK_TIMEOUT"
        done = hurried.fails(corpus, "LOCK_TIMEOUT", words, on_conflict="skip")

    assert done.error is not None
    assert done.error.can_retry
    assert done.result.duration < 5


def test_a_reader_blocks_a_restore_that_truncates(corpus: Database, hurried: RestoreMaker) -> None:
    with holding(corpus, "SELECT FROM langchain_pg_collection"):
        hurried.fails(corpus, "LOCK_TIMEOUT", "Another session holds the table", **TRUNCATING)


@pytest.mark.parametrize("on_conflict", ["fail", "skip", "replace"])
def test_readers_and_a_restore_that_truncates_nothing_let_each_other_be(
    corpus: Database, hurried: RestoreMaker, on_conflict: str
) -> None:
    corpus.run(
        "CREATE INDEX ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops);"
        "UPDATE langchain_pg_embedding SET id = 'other ' || id"
    )
    seen: list[int] = []
    with holding(corpus, "SELECT FROM langchain_pg_embedding") as reader:

        def look() -> None:
            reader.execute("SELECT count(*) FROM langchain_pg_embedding")
            ((rows,),) = reader.fetchall()
            seen.append(rows)

        for step in ("load", "build", "prove"):
            hurried.between[step] = look
        hurried.succeeds(corpus, tables=(EMBEDDINGS,), on_conflict=on_conflict)
        look()

    assert seen == [58, 58, 58, 116]


def test_writers_wait_until_the_restore_has_ended(corpus: Database, restore: RestoreMaker) -> None:
    corpus.run("DELETE FROM langchain_pg_embedding")
    writing = threading.Thread(
        target=corpus.run,
        args=["INSERT INTO langchain_pg_embedding (id) VALUES ('waits')"],
        daemon=True,
    )

    def begin_to_write() -> None:
        writing.start()
        wait_for_a_waiting_lock(corpus)

    restore.between["load"] = begin_to_write
    done = restore.succeeds(corpus, tables=(EMBEDDINGS,))
    writing.join(JOIN_SECONDS)
    assert not writing.is_alive()

    assert done.restored(EMBEDDINGS).digest_matches is True, "the writer's row is not in the proof"
    assert count(corpus) == 59


def test_a_dead_runs_schema_that_is_in_use_is_left_for_the_next_restore(
    corpus: Database, hurried: RestoreMaker
) -> None:
    schema = staging_name("dead")
    corpus.run(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (i int)")
    with holding(corpus, f"SELECT FROM {schema}.t"):
        done = hurried(corpus.url, **TRUNCATING)
    assert done.error is None
    assert staging_schemas(corpus) == [schema]

    done = hurried.succeeds(corpus, **TRUNCATING)
    assert done.result.notices == [f"Dropped {schema}, which a killed restore had left behind."]


def test_a_restore_that_waits_for_a_lock_can_be_cancelled(
    corpus: Database, restore: RestoreMaker
) -> None:
    restore.lock_timeout = 60

    def interrupt() -> None:
        wait_for_a_waiting_lock(corpus)
        os.kill(os.getpid(), signal.SIGINT)

    with (
        kept_from_locking(corpus, COLLECTIONS),
        untouched(corpus),
        in_background(interrupt),
        interrupted(),
    ):
        restore(corpus.url, **TRUNCATING)


def test_an_interrupt_during_the_recall_probes_ends_the_run_and_the_tables_stay_restored(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(
        "CREATE INDEX near ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops)"
    )
    assert backup(langchain.url).error is None
    run = restore.run(**TRUNCATING, probes=5)
    run.find(lambda: settings_for(langchain.url))
    for planned in run.prepare():
        run.load(planned.table, lambda _: None)
    run.build_indexes()
    run.prove()

    def interrupt() -> None:
        wait_for_a_waiting_lock(langchain)
        os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    with holding(langchain, f"LOCK TABLE {EMBEDDINGS}"):
        with in_background(interrupt), interrupted(), pytest.raises(RunCancelled):
            run.measure_recall()
        assert time.monotonic() - began < 20, "without waiting for the lock or for the probes' end"
    result = run.close()

    assert (result.outcome, result.errors) == ("restored", [])
    assert result.notices == ["Recall was not measured: the run was stopped before."]
    wait_until_nothing_is_open(langchain)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            "ALTER TABLE langchain_pg_embedding ALTER embedding TYPE vector(4) USING NULL",
            "DATABASE_ERROR",
            "was changed while it was being locked. Restore again",
        ),
        (
            "CREATE TABLE o (id text REFERENCES langchain_pg_embedding)",
            "INVALID_PARAMS",
            "Restore both tables",
        ),
        ("DROP TABLE langchain_pg_embedding", "TABLE_NOT_FOUND", "does not exist"),
    ],
)
def test_a_table_that_changes_before_it_is_locked_is_not_taken_for_what_it_was(
    corpus: Database,
    restore: RestoreMaker,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    error: str,
    words: str,
) -> None:
    _just_before_the_locks(monkeypatch, corpus, change)

    done = restore(corpus.url, **TRUNCATING)

    restore.check_failure(done, error, words)
    wait_until_nothing_is_open(corpus)
    assert count(corpus, COLLECTIONS) == 4


def _just_before_the_locks(
    monkeypatch: pytest.MonkeyPatch, database: Database, change: str
) -> None:
    begin = Target.begin

    def change_first(self: Target, *arguments: Any) -> None:
        database.run(change)
        begin(self, *arguments)

    monkeypatch.setattr(Target, "begin", change_first)


def _two_restores(
    database: Database, restore: RestoreMaker, meet_before: str, **parameters: Any
) -> list[FinishedRestore]:
    restore.between[meet_before] = meeting(2)
    restore.lock_timeout = 20
    done: list[FinishedRestore] = []
    with in_background(lambda: done.append(restore(database.url, **parameters))):
        done.append(restore(database.url, **parameters))
    return done


def test_two_restores_that_truncate_run_one_after_the_other(
    corpus: Database, restore: RestoreMaker
) -> None:
    before = everything_in(corpus)

    done = _two_restores(corpus, restore, "prepare", **TRUNCATING)

    assert [finished.error for finished in done] == [None, None]
    assert everything_in(corpus) == before


@pytest.mark.usefixtures("in_staging")
def test_of_two_restores_that_create_the_tables_one_does(
    corpus: Database, restore: RestoreMaker
) -> None:
    before = rows_of(corpus)
    corpus.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")

    done = _two_restores(corpus, restore, "prove")

    assert sorted(finished.error_type or "" for finished in done) == ["", "DATABASE_ERROR"]
    (failed,) = [finished for finished in done if finished.error is not None]
    assert "langchain_pg_" in failed.message
    assert rows_of(corpus) == before
