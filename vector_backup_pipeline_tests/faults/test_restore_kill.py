"""A restore that is killed, at any moment, has restored all or nothing, and the next one can."""

from __future__ import annotations

import subprocess
import time
from contextlib import AbstractContextManager

import pytest

from vector_backup_pipeline_tests.faults import stopped_restore
from vector_backup_pipeline_tests.faults.stopped_restore import RUN_ID, STEPS
from vector_backup_pipeline_tests.faults.watching import count, wait_until_nothing_is_open
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import begun, hears
from vector_backup_pipeline_tests.fix_restore import (
    RestoreMaker,
    everything_in,
    rows_of,
    staging_schemas,
)

_BEFORE_THE_COMMIT = STEPS[: STEPS.index("committed")]
_STAGING = f"vector_restore_{RUN_ID}"
_INDEX = "CREATE INDEX near ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops)"


@pytest.fixture
def whole(langchain: Database, backup: BackupMaker) -> str:
    """What is in the database of `langchain` at the time of its backup."""
    langchain.run(_INDEX)
    assert backup(langchain.url).error is None
    return everything_in(langchain)


@pytest.mark.parametrize("step", ["loading", "proven", "committed"])
def test_killed_at_a_step_existing_tables_are_as_before_or_restored(
    langchain: Database, whole: str, restore: RestoreMaker, step: str
) -> None:
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id > 'doc-3'")
    before = everything_in(langchain)

    with _run(langchain, restore, step) as process:
        assert hears(process) == "reached"
        process.kill()
    wait_until_nothing_is_open(langchain)

    assert everything_in(langchain) == (before if step in _BEFORE_THE_COMMIT else whole)
    restore.succeeds(langchain, truncate_before_restore=True)
    assert everything_in(langchain) == whole


@pytest.mark.parametrize("step", ["prepared", "loading", "proven", "committed"])
def test_killed_at_a_step_new_tables_are_not_there_or_whole(
    langchain: Database, whole: str, restore: RestoreMaker, step: str
) -> None:
    rows = rows_of(langchain)
    langchain.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")

    with _run(langchain, restore, step) as process:
        assert hears(process) == "reached"
        process.kill()
    wait_until_nothing_is_open(langchain)

    if step not in _BEFORE_THE_COMMIT:
        assert rows_of(langchain) == rows
        assert staging_schemas(langchain) == []
        return
    assert langchain.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    # The last step before the commit has emptied it, but that was rolled back.
    assert staging_schemas(langchain) == [_STAGING]
    done = restore.succeeds(langchain)
    assert any(_STAGING in notice for notice in done.result.notices)
    assert rows_of(langchain) == rows


def test_killed_in_a_database_without_the_extension_only_the_schema_is_left(
    langchain: Database, whole: str, restore: RestoreMaker
) -> None:
    langchain.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")
    langchain.run("DROP EXTENSION vector")

    with _run(langchain, restore, "loaded") as process:
        assert hears(process) == "reached"
        process.kill()
    wait_until_nothing_is_open(langchain)

    assert staging_schemas(langchain) == [_STAGING]
    assert langchain.ask("SELECT FROM pg_extension WHERE extname = 'vector'") == []
    assert (
        langchain.ask(f"SELECT FROM pg_class WHERE relnamespace = '{_STAGING}'::regnamespace") == []
    )
    restore.succeeds(langchain)
    assert count(langchain) == 58


def test_a_live_runs_schema_is_left_alone(
    langchain: Database, whole: str, restore: RestoreMaker
) -> None:
    rows = rows_of(langchain)
    langchain.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")
    with _run(langchain, restore, "loaded") as process:
        assert hears(process) == "reached"

        done = restore(langchain.url)

        assert done.error is None
        assert staging_schemas(langchain) == [_STAGING]
        assert not [notice for notice in done.result.notices if "Dropped" in notice]
        process.kill()
    wait_until_nothing_is_open(langchain)
    assert rows_of(langchain) != rows, "what the killed run had loaded is there too"
    restore.succeeds(langchain, truncate_before_restore=True)
    assert rows_of(langchain) == rows


def test_a_dead_runs_schema_that_somebody_looks_into_is_left_for_later(
    langchain: Database, whole: str, restore: RestoreMaker
) -> None:
    langchain.run(
        f"CREATE SCHEMA {_STAGING}; CREATE TABLE {_STAGING}.t (i int);"
        f"CREATE SCHEMA {_STAGING}_2; CREATE SCHEMA vector_restore_of_somebody"
    )
    restore.lock_timeout = 0.2
    with langchain.session() as session, session.cursor() as cursor:
        cursor.execute(f"SELECT FROM {_STAGING}.t")

        done = restore(langchain.url, truncate_before_restore=True)

    assert done.error is None
    assert staging_schemas(langchain) == [_STAGING, f"{_STAGING}_2", "vector_restore_of_somebody"]
    again = restore(langchain.url, truncate_before_restore=True)
    assert again.error is None
    assert staging_schemas(langchain) == ["vector_restore_of_somebody"]
    assert len(again.result.notices) == 2


def test_killed_at_any_moment_the_target_is_as_before_or_restored(
    langchain: Database, whole: str, restore: RestoreMaker
) -> None:
    lost = "DELETE FROM langchain_pg_embedding WHERE id > 'doc-3'"
    langchain.run(lost)
    before = everything_in(langchain)
    with _run(langchain, restore, "never") as process:
        started = time.monotonic()
        assert hears(process) == "done"
        whole_time = time.monotonic() - started
    assert everything_in(langchain) == whole

    for part in range(3):
        langchain.run(lost)
        with _run(langchain, restore, "never") as process:
            time.sleep(whole_time * (part + 1) / 4)
            process.kill()
        wait_until_nothing_is_open(langchain)

        assert everything_in(langchain) in (before, whole)
        assert count(langchain) in (58, len(before.split("\ndoc-")) - 1)


def _run(
    database: Database, restore: RestoreMaker, step: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    return begun(stopped_restore.__name__, restore.root, step, database.url)
