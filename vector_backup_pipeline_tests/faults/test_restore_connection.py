"""Restores that lose connections or servers: all is restored, or nothing."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.restore import connections, load
from vector_backup_pipeline.engine.restore.connections import TargetConnections
from vector_backup_pipeline.engine.results import FailedTable, TruncateFailure
from vector_backup_pipeline.engine.stored_files import unpack
from vector_backup_pipeline_tests.faults.proxy import proxy
from vector_backup_pipeline_tests.faults.watching import (
    COLLECTIONS,
    EMBEDDINGS,
    MORE_ROWS,
    all_that_it_tells,
    count,
    interrupted,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    staging_schemas,
    untouched,
)

_TERMINATE = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'vector_backup_pipeline'
"""
# The last statement of a restore before its COMMIT.
_AT_THE_END = b"SET CONSTRAINTS ALL IMMEDIATE"


@pytest.fixture
def large_corpus(langchain: Database, backup: BackupMaker) -> Database:
    """LangChain's tables with a few MB of rows, and a backup."""
    langchain.run(MORE_ROWS)
    assert backup(langchain.url).error is None
    return langchain


@pytest.fixture
def backed_up(large_corpus: Database) -> Database:
    """A row was added after the backup."""
    large_corpus.run("INSERT INTO langchain_pg_embedding (id) VALUES ('later')")
    return large_corpus


@pytest.fixture
def without_tables(large_corpus: Database) -> Database:
    """Both tables were lost after the backup."""
    large_corpus.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")
    return large_corpus


@pytest.fixture(params=["existing tables", "new tables"])
def target(request: pytest.FixtureRequest) -> Database:
    """Existing or new tables; workers create new ones in the staging schema."""
    if request.param == "existing tables":
        existing: Database = request.getfixturevalue("backed_up")
        return existing
    request.getfixturevalue("in_staging")
    new: Database = request.getfixturevalue("without_tables")
    return new


class _InTheMiddle:
    """A listener that calls a function once, during the load of the embeddings."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self.done = False

    def __call__(self, moment: Progress) -> None:
        if moment.table == EMBEDDINGS and not self.done and moment.percent != 100:
            self.done = True
            self._action()


def test_backends_that_are_killed_before_the_proof_leave_the_target_as_it_was(
    target: Database, restore: RestoreMaker
) -> None:
    restore.between["prove"] = lambda: target.run(_TERMINATE)

    done = restore.fails(target, "DATABASE_ERROR", **TRUNCATING)

    assert done.error is not None
    assert done.error.can_retry


def test_a_backend_that_is_killed_in_a_load_leaves_the_target_as_it_was(
    backed_up: Database, restore: RestoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = threading.Event()

    def read_until_killed(*arguments: Any) -> Iterator[bytes]:
        chunks = unpack(*arguments)
        yield next(chunks)
        if arguments[1].name.startswith(EMBEDDINGS):
            killed.wait(20)
        yield from chunks

    def terminate() -> None:
        backed_up.run(_TERMINATE)
        killed.set()

    # Otherwise all rows may have been sent before the server reacts.
    monkeypatch.setattr(load, "unpack", read_until_killed)
    kill = _InTheMiddle(terminate)

    done = restore.fails(backed_up, "DATABASE_ERROR", EMBEDDINGS, listener=kill, **TRUNCATING)

    assert kill.done
    assert done.error is not None
    assert done.error.can_retry
    assert "administrator command" in done.error.message
    loaded = done.result.restore_results[COLLECTIONS]
    assert isinstance(loaded, FailedTable)
    assert f"rolled back when {EMBEDDINGS} failed" in loaded.error
    truncated = done.result.truncate_results[EMBEDDINGS]
    assert isinstance(truncated, TruncateFailure)
    assert truncated.outcome == "not_truncated"


@pytest.mark.usefixtures("in_staging")
def test_a_worker_that_is_killed_in_a_load_leaves_nothing_where_nothing_was(
    without_tables: Database, restore: RestoreMaker
) -> None:
    kill = _InTheMiddle(lambda: without_tables.run(f"{_TERMINATE} AND query LIKE 'COPY %'"))

    restore.fails(without_tables, "DATABASE_ERROR", EMBEDDINGS, listener=kill)

    assert kill.done


@pytest.mark.usefixtures("in_staging")
@pytest.mark.parametrize(
    ("pool_size", "used"), [(2, "1 of 4 workers"), (1, "one connection (0 workers)")]
)
def test_a_pool_that_is_too_small_for_all_workers_is_used_as_far_as_it_goes(
    without_tables: Database,
    restore: RestoreMaker,
    monkeypatch: pytest.MonkeyPatch,
    pool_size: int,
    used: str,
) -> None:
    monkeypatch.setattr(connections, "WORKER_PATIENCE_SECONDS", 0.2)
    with proxy(without_tables.server.port, pool_size=pool_size) as pooler:
        done = restore(pooler.url(without_tables), workers=4)

    assert done.error is None
    assert any(f"over {used}" in notice for notice in done.result.notices)
    assert count(without_tables) == 2558


@pytest.mark.usefixtures("in_staging")
def test_connections_that_are_cut_for_good_leave_a_schema_for_the_next_restore_to_drop(
    without_tables: Database, restore: RestoreMaker
) -> None:
    with proxy(without_tables.server.port) as proxied:

        def cut_for_good() -> None:
            proxied.stop_listening()
            proxied.lose_all()

        done = restore(proxied.url(without_tables), _InTheMiddle(cut_for_good))
    wait_until_nothing_is_open(without_tables)

    restore.check_failure(done, "DATABASE_ERROR")
    (staging,) = staging_schemas(without_tables)
    assert any(f"{staging} may remain" in notice for notice in done.result.notices)
    assert without_tables.ask("SELECT FROM pg_tables WHERE schemaname = 'public'") == []
    next_one = restore.succeeds(without_tables)
    assert any(f"Dropped {staging}" in notice for notice in next_one.result.notices)
    assert count(without_tables) == 2558


def test_no_part_of_a_restore_shows_the_password(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    made = backup(langchain.url)
    url = langchain.create_role("knows_it", "hunter2 is/secret")

    refused = restore(langchain.url_as("knows_it", "hunter2 is/wrong"))
    forbidden = restore(url)

    assert (refused.error_type, forbidden.error_type) == ("DATABASE_ERROR", "PERMISSION_DENIED")
    for done in (refused, forbidden):
        assert done.error is not None
        assert "hunter2" not in all_that_it_tells(done.error)
        assert "hunter2" not in done.result.model_dump_json()
    assert "hunter2" not in (made.directory / "vector_backup_log.txt").read_text()


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_never_reached_the_server_restores_nothing(
    target: Database, restore: RestoreMaker
) -> None:
    with proxy(
        target.server.port, commit_of=_AT_THE_END, loses_commit_before_server=True
    ) as proxied:
        restore.fails(target, "DATABASE_ERROR", url=proxied.url(target), **TRUNCATING)

    assert proxied.has_cut


@pytest.mark.usefixtures("impatient")
def test_a_commit_whose_reply_is_lost_is_found_to_have_happened(
    target: Database, restore: RestoreMaker
) -> None:
    with proxy(
        target.server.port, commit_of=_AT_THE_END, loses_commit_before_client=True
    ) as proxied:
        done = restore(proxied.url(target), **TRUNCATING)

    assert proxied.has_cut
    assert done.error is None
    assert done.result.restore_performed
    assert done.restored(EMBEDDINGS).digest_matches is True
    assert count(target) == 2558
    assert staging_schemas(target) == []


@pytest.mark.usefixtures("impatient")
def test_a_lost_commit_whose_end_can_not_be_learned_is_unknown(
    target: Database, restore: RestoreMaker
) -> None:
    with proxy(
        target.server.port,
        commit_of=_AT_THE_END,
        loses_commit_before_client=True,
        deaf_afterwards=True,
    ) as proxied:
        done = restore(proxied.url(target), **TRUNCATING)

    restore.check_failure(done, "DATABASE_ERROR", "Check whether the rows exist")
    assert done.result.outcome == "unknown"
    for truncated in done.result.truncate_results.values():
        assert isinstance(truncated, TruncateFailure)
        assert truncated.outcome == "unknown"
    loaded = done.result.restore_results[EMBEDDINGS]
    assert isinstance(loaded, FailedTable)
    assert "whether it was committed is unknown" in loaded.error
    assert count(target) == 2558


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_of_the_listener_leaves_the_target_as_it_was(
    target: Database, restore: RestoreMaker, error: type[BaseException]
) -> None:
    def failing() -> None:
        raise error

    threads = set(threading.enumerate())
    with untouched(target), pytest.raises(error):
        restore(target.url, _InTheMiddle(failing), **TRUNCATING)

    assert set(threading.enumerate()) <= threads


def test_an_interrupt_while_committing_does_not_blur_what_happened(
    backed_up: Database, backup: BackupMaker, restore: RestoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = TargetConnections.commit

    def interrupt_and_commit(self: TargetConnections) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        committed(self)

    monkeypatch.setattr(TargetConnections, "commit", interrupt_and_commit)
    run = restore.run(**TRUNCATING)
    run.find(lambda: settings_for(backed_up.url))
    for planned in run.prepare():
        run.load(planned.table, lambda _: None)
    run.build_indexes()
    with interrupted():
        run.prove()
    result = run.close()

    assert count(backed_up) == 2558
    assert result.restore_performed
    assert result.truncate_performed
    assert result.restore_results[EMBEDDINGS].success
    assert result.truncate_results[EMBEDDINGS].success
