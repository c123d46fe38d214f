"""Tables are truncated only after a proven complete backup, and results are correct."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from vector_backup_pipeline.engine.errors import DatabaseError, IntegrityError
from vector_backup_pipeline.engine.postgres import ranges
from vector_backup_pipeline.engine.results import TruncateFailure
from vector_backup_pipeline_tests.faults.proxy import proxy
from vector_backup_pipeline_tests.faults.watching import (
    EMBEDDINGS,
    count,
    error_type,
    ids,
    ids_in,
    in_background,
    pinned_and_exported,
    wait_for_a_waiting_lock,
    wait_until,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

_LOCKS_OF_WRITERS = """
    SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'
       AND relation = 'langchain_pg_embedding'::regclass
"""


def _assert_backed_up_but_not_truncated(
    made: FinishedBackup, database: Database, error: str, rows: int = 58
) -> None:
    assert error_type(made.error) == error
    assert made.manifest.complete
    assert made.manifest.truncate in ("none", "not_truncated")
    assert made.file(EMBEDDINGS).rows == rows
    assert made.result.backup_performed
    assert not made.result.truncate_performed
    outcome = made.result.truncate_results[EMBEDDINGS]
    assert isinstance(outcome, TruncateFailure)
    assert (outcome.outcome, outcome.error_type) == ("not_truncated", error)
    assert count(database) == rows
    wait_until_nothing_is_open(database)


def test_every_row_of_busy_writers_is_in_the_file_or_in_the_table(
    langchain: Database, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 1 << 14)
    committed: list[set[str]] = [ids(langchain)]
    enough = threading.Event()

    def write(writer: int) -> None:
        written: set[str] = set()
        committed.append(written)
        with langchain.session() as session, session.cursor() as cursor:
            number = 0
            while not enough.is_set():
                number += 1
                id_ = f"{writer}-{number}"
                cursor.execute(
                    "INSERT INTO langchain_pg_embedding (id, document) VALUES (%s, 'x')", [id_]
                )
                session.commit()
                written.add(id_)

    def every_writer_goes_on() -> bool:
        return all(len(now) > before for now, before in zip(committed, at_the_end, strict=True))

    backup.lock_timeout = 10
    with (
        in_background(lambda: write(1)),
        in_background(lambda: write(2)),
        in_background(lambda: write(3)),
        _setting_at_the_end(enough),
    ):
        wait_until(lambda: len(committed) == 4 and min(map(len, committed)) > 20)
        made = backup(langchain.url, truncate_vector_tables=True)
        at_the_end = [-1, *map(len, committed[1:])]
        wait_until(every_writer_goes_on)

    assert made.error is None
    saved = ids_in(made.path(EMBEDDINGS))
    assert len(saved) == len(set(saved))
    assert set(saved).isdisjoint(ids(langchain))
    assert set(saved) | ids(langchain) == set().union(*committed)
    assert ids(langchain)


@contextmanager
def _setting_at_the_end(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


def test_a_writer_that_had_begun_before_the_run_is_waited_for_and_saved(
    langchain: Database, backup: BackupMaker
) -> None:
    made: list[FinishedBackup] = []
    backup.lock_timeout = 10
    with langchain.session() as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO langchain_pg_embedding (id) VALUES ('late')")
        with in_background(lambda: made.append(backup(langchain.url, truncate_vector_tables=True))):
            wait_for_a_waiting_lock(langchain)
            session.commit()

    assert made[0].error is None
    assert "late" in ids_in(made[0].path(EMBEDDINGS))
    assert count(langchain) == 0


@pytest.mark.parametrize("harm", ["one byte changed", "removed"])
def test_a_file_that_is_not_what_was_written_keeps_the_table(
    langchain: Database, backup: BackupMaker, harm: str
) -> None:
    def do_harm() -> None:
        (path,) = (backup.root / "vector_bak").glob("langchain_pg_embedding_*.csv")
        data = path.read_bytes()
        if harm == "one byte changed":
            path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        else:
            path.unlink()

    backup.between["truncate"] = do_harm
    made = backup(langchain.url, truncate_vector_tables=True)

    assert error_type(made.error) == (
        "RESOURCE_NOT_FOUND" if harm == "removed" else "INTEGRITY_ERROR"
    )
    assert not made.result.truncate_performed
    assert count(langchain) == 58


def test_truncating_without_a_backup_of_every_table_is_refused_by_the_run_itself(
    langchain: Database, backup: BackupMaker
) -> None:
    run = backup.run(truncate_vector_tables=True)
    run.resolve()
    run.pin(lambda: settings_for(langchain.url))
    run.export(EMBEDDINGS, lambda _: None)
    try:
        with pytest.raises(IntegrityError):
            run.truncate()
    finally:
        run.close()
    assert count(langchain) == 58


def test_a_role_without_truncate_gets_its_backup_and_keeps_no_writer_waiting(
    langchain: Database, backup: BackupMaker
) -> None:
    url = langchain.create_role("only_reads")
    langchain.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO only_reads")
    locks: list[int] = []
    backup.between["truncate"] = lambda: locks.append(langchain.ask_one(_LOCKS_OF_WRITERS))

    made = backup(url, truncate_vector_tables=True)

    _assert_backed_up_but_not_truncated(made, langchain, "PERMISSION_DENIED")
    assert locks == [0]


def test_a_referencing_table_keeps_the_table_is_named_and_no_lock_outlives_the_failure(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run("CREATE TABLE notes (doc varchar REFERENCES langchain_pg_embedding (id))")
    run = backup.run(truncate_vector_tables=True)
    with closing(run):
        pinned_and_exported(run, langchain.url)
        assert langchain.ask_one(_LOCKS_OF_WRITERS) == 1
        with pytest.raises(DatabaseError, match='"notes" references "langchain_pg_embedding"'):
            run.truncate()
        assert langchain.ask_one(_LOCKS_OF_WRITERS) == 0
    assert count(langchain) == 58


def test_a_truncate_trigger_that_adds_rows_rolls_everything_back(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run(
        """
        CREATE FUNCTION add_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.langchain_pg_embedding (id) VALUES ('sentinel'); RETURN NULL;
        END $$;
        CREATE TRIGGER add_one AFTER TRUNCATE ON langchain_pg_embedding EXECUTE FUNCTION add_one();
        """
    )

    made = backup(langchain.url, truncate_vector_tables=True)

    _assert_backed_up_but_not_truncated(made, langchain, "INTEGRITY_ERROR")
    assert "sentinel" not in ids(langchain)


def test_an_inheritance_parent_is_not_truncated(langchain: Database, backup: BackupMaker) -> None:
    langchain.run("CREATE TABLE child () INHERITS (langchain_pg_embedding)")
    langchain.run("INSERT INTO child (id) VALUES ('child')")

    made = backup(langchain.url, truncate_vector_tables=True)

    assert error_type(made.error) == "INVALID_PARAMS"
    assert made.file(EMBEDDINGS).rows == 58
    assert count(langchain) == 59


def test_a_partitioned_table_is_truncated_with_all_its_rows_saved(
    database: Database, backup: BackupMaker
) -> None:
    database.run(
        """
        CREATE TABLE parts (id int, place text) PARTITION BY LIST (place);
        CREATE TABLE "Part A" PARTITION OF parts FOR VALUES IN ('a');
        CREATE TABLE rest PARTITION OF parts DEFAULT PARTITION BY RANGE (id);
        CREATE TABLE rest_1 PARTITION OF rest FOR VALUES FROM (0) TO (500);
        CREATE TABLE rest_2 PARTITION OF rest DEFAULT;
        INSERT INTO parts SELECT i, chr(97 + i % 3) FROM generate_series(1, 1000) i;
        """
    )

    def write_to_a_leaf() -> None:
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            database.run("SET lock_timeout = '100ms'; INSERT INTO rest_1 VALUES (1, 'z')")

    backup.between["truncate"] = write_to_a_leaf
    made = backup(
        database.url, truncate_vector_tables=True, tables=("parts",), truncate_tables=("parts",)
    )

    assert made.error is None
    assert sorted(map(int, ids_in(made.path("parts")))) == list(range(1, 1001))
    assert count(database, "parts") == 0


def test_without_its_coordinator_a_run_truncates_nothing(
    langchain: Database, backup: BackupMaker
) -> None:
    backup.between["truncate"] = lambda: langchain.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'vector_backup_pipeline'"
    )

    made = backup(langchain.url, truncate_vector_tables=True)

    _assert_backed_up_but_not_truncated(made, langchain, "DATABASE_ERROR")


def test_a_truncate_whose_manifest_cannot_be_written_does_not_happen(
    langchain: Database, backup: BackupMaker
) -> None:
    def block_the_manifest() -> None:
        directory = backup.root / "vector_bak"
        (marker,) = directory.glob(".vector_backup_*.run")
        stamp = marker.name.removeprefix(".vector_backup_").removesuffix(".run")
        (directory / f"vector_backup_{stamp}.json.tmp").mkdir()

    backup.between["truncate"] = block_the_manifest
    made = backup(langchain.url, truncate_vector_tables=True)

    assert error_type(made.error) == "STORAGE_ERROR"
    assert not made.result.truncate_performed
    assert not made.result.backup_performed
    assert count(langchain) == 58


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lost", ["COMMIT", "its reply"])
@pytest.mark.parametrize("user", ["postgres", "ordinary"])
def test_a_lost_commit_is_found_out(
    langchain: Database, backup: BackupMaker, lost: str, user: str
) -> None:
    """Also as a role that cannot read the server's identity."""
    langchain.run("DROP ROLE IF EXISTS ordinary")
    langchain.create_role("ordinary", "p")
    langchain.run("GRANT SELECT, TRUNCATE ON ALL TABLES IN SCHEMA public TO ordinary")
    langchain.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    options = {f"loses_commit_before_{'server' if lost == 'COMMIT' else 'client'}": True}
    with proxy(langchain.server.port, **options) as proxied:
        made = backup(proxied.url(langchain, user), truncate_vector_tables=True)
    langchain.run("DROP OWNED BY ordinary")

    assert proxied.has_cut
    assert (made.manifest.server.system_identifier is None) is (user == "ordinary")
    if lost == "COMMIT":
        _assert_backed_up_but_not_truncated(made, langchain, "DATABASE_ERROR")
        assert made.manifest.truncate == "not_truncated"
    else:
        assert made.error is None
        assert made.manifest.truncate == "done"
        assert made.result.truncate_performed
        assert made.file(EMBEDDINGS).rows == 58
        assert count(langchain) == 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answers", ["nobody", "another server"])
def test_a_lost_commit_that_cannot_be_found_out_is_unknown(
    langchain: Database, backup: BackupMaker, server16_port: int, answers: str
) -> None:
    is_deaf = answers == "nobody"
    ports = [langchain.server.port, *([] if is_deaf else [server16_port])]
    # workers=1: the first connection leads to the run's server, later ones to the other.
    with proxy(*ports, loses_commit_before_client=True, deaf_afterwards=is_deaf) as proxied:
        made = backup(proxied.url(langchain), truncate_vector_tables=True, workers=1)

    assert error_type(made.error) == "DATABASE_ERROR"
    assert made.manifest.complete
    assert made.manifest.truncate == "unknown"
    outcome = made.result.truncate_results[EMBEDDINGS]
    assert isinstance(outcome, TruncateFailure)
    assert outcome.outcome == "unknown"
    assert "OUTCOME UNKNOWN" in (made.directory / "vector_backup_log.txt").read_text()
