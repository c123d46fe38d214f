"""What is said of a database before its first backup."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

from vector_backup_pipeline.embedded import find_free_port
from vector_backup_pipeline.engine.checkup import database as database_check
from vector_backup_pipeline.engine.checkup import tables as tables_check
from vector_backup_pipeline.engine.checkup.database import check_database
from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres.server import identify_server
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Checker, clock_off_by
from vector_backup_pipeline_tests.fix_postgres import Database

WITHOUT_CONNECTION = ["database: snapshot", "tables: tables", "clock: server"]


def grant(database: Database, role: str, what: str = "SELECT") -> None:
    database.run(f"GRANT {what} ON ALL TABLES IN SCHEMA public TO {role}")


@pytest.fixture
def role(langchain: Database) -> str:
    """A role that may connect, and no more."""
    return f"checker_of_{langchain.name}"


@pytest.fixture
def url(langchain: Database, role: str) -> str:
    return langchain.create_role(role, "geheim-4711")


def test_where_everything_is_there_all_is_well(any_database: Database, check: Checker) -> None:
    any_database.run("CREATE TABLE docs (v vector(2)); INSERT INTO docs VALUES ('[1,2]')")

    found = check(any_database.url, tables=("docs",), truncate_tables=("docs",))

    assert found.of_status("failed", "warning", "skipped") == []
    assert f"connected to {any_database.name} on " in found["database: connection"].message
    assert "PostgreSQL 1" in found["database: server"].message
    assert ", pgvector " in found["database: server"].message
    assert found["database: workers"].message == "2 more connections share the snapshot"
    assert found["tables: docs"].message.startswith("can be read: ")
    assert check.paths == []


def test_a_check_changes_nothing_and_closes_its_connections(
    langchain: Database, check: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    before = langchain.ask_one(query)
    opened: list[Any] = []
    connect = psycopg2.connect

    def remembering(**parameters: Any) -> Any:
        opened.append(connect(**parameters))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr(psycopg2, "connect", remembering)
        check(langchain.url)

    assert langchain.ask_one(query) == before
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58
    assert len(opened) == 4, "one looks, one has the snapshot, two share it"
    assert all(connection.closed for connection in opened)


def test_no_server_leaves_the_rest_to_be_tried(check: Checker) -> None:
    found = check(f"postgresql://u:geheim@127.0.0.1:{find_free_port()}/d")

    assert found["database: connection"].status == "failed"
    assert found["database: connection"].message.startswith("No database server was reached: ")
    assert "Check host and port" in str(found["database: connection"].advice)
    skipped = [place for place in found.of_status("skipped") if place != "space: free space"]
    assert skipped == WITHOUT_CONNECTION
    assert found["storage: put"].status == "ok"
    assert "geheim" not in found.text


def test_a_wrong_password_is_told_without_it(url: str, check: Checker) -> None:
    found = check(url.replace("geheim-4711", "wrong-0815"))

    told = found["database: connection"]
    assert told.status == "failed"
    assert "password authentication failed" in told.message
    assert "Check user, password" in str(told.advice)
    assert "wrong-0815" not in found.text
    assert "geheim-4711" not in found.text


def test_what_the_settings_do_not_tell_is_not_tried(check: Checker) -> None:
    found = check(None)

    assert found["database: connection"].status == "skipped"
    assert "the settings do not say where" in found["database: connection"].message


def test_a_role_without_privileges_is_told_which_to_grant(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    found = check(url)

    told = found[f"tables: {EMBEDDINGS}"]
    assert told.status == "failed"
    assert told.advice == f"Run: GRANT SELECT ON public.{EMBEDDINGS} TO {role};"
    truncate = found[f"tables: truncate {EMBEDDINGS}"]
    assert truncate.status == "skipped"
    assert truncate.advice == f"Run: GRANT TRUNCATE ON public.{EMBEDDINGS} TO {role};"


def test_the_printed_grants_mend_it(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    langchain.run('CREATE SCHEMA "my App"; CREATE TABLE "my App".docs (id int)')
    tables = ('"my App".docs', EMBEDDINGS)
    found = check(url, tables=tables, truncate_tables=tables)
    advice = [f.advice for f in found.findings if f.area == "tables" and f.advice]
    assert any("GRANT USAGE ON SCHEMA" in each for each in advice)

    langchain.run(" ".join(each.removeprefix("Run: ") for each in advice))

    mended = check(url, tables=tables, truncate_tables=tables)
    assert [f.status for f in mended.findings if f.area == "tables"] == ["ok"] * 5


def test_a_missing_truncate_privilege_is_a_warning(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    grant(langchain, role)

    found = check(url)

    assert found.of_status("failed") == []
    told = found[f"tables: truncate {EMBEDDINGS}"]
    assert told.status == "warning"
    assert f"GRANT TRUNCATE ON public.{EMBEDDINGS} TO {role};" in str(told.advice)
    assert "The backup is not affected." in str(told.advice)


def test_a_missing_table_is_told_with_those_of_like_name(
    langchain: Database, check: Checker
) -> None:
    langchain.run("CREATE SCHEMA app; CREATE TABLE app.docs (id int)")

    found = check(langchain.url, tables=("Docs", EMBEDDINGS, "nowhere"))

    assert found["tables: Docs"].status == "failed"
    assert str(found["tables: Docs"].advice).startswith("There is app.docs: name it so")
    assert found[f"tables: {EMBEDDINGS}"].status == "ok"
    assert "There is" not in str(found["tables: nowhere"].advice)


def test_a_view_is_no_table(langchain: Database, check: Checker) -> None:
    langchain.run("CREATE VIEW v AS SELECT 1 AS one")

    told = check(langchain.url, tables=("v",))["tables: v"]

    assert told.status == "failed"
    assert "a view, not a table" in told.message


def test_row_security_that_would_hide_rows_fails(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    grant(langchain, role)
    langchain.run(f"ALTER TABLE {EMBEDDINGS} ENABLE ROW LEVEL SECURITY")

    told = check(url)[f"tables: {EMBEDDINGS}"]

    assert told.status == "failed"
    assert "Row-level security would hide rows" in told.message
    assert "BYPASSRLS" in str(told.advice)


def test_what_stands_in_a_truncates_way_is_a_warning(langchain: Database, check: Checker) -> None:
    langchain.run(
        "CREATE TABLE notes (doc varchar CONSTRAINT of_doc REFERENCES langchain_pg_embedding);"
        "CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent)"
    )

    found = check(
        langchain.url,
        tables=(EMBEDDINGS, "parent"),
        truncate_tables=(EMBEDDINGS, "parent", "elsewhere"),
    )

    assert "of_doc of public.notes refers to it" in found[f"tables: truncate {EMBEDDINGS}"].message
    assert "inheritance children" in found["tables: truncate parent"].message
    assert "VECTOR_BACKUP_TABLES" in str(found["tables: truncate elsewhere"].advice)
    truncates = [f.status for f in found.findings if f.name.startswith("truncate")]
    assert truncates == ["warning"] * 3


def test_tables_that_are_truncated_together_may_refer_to_each_other(
    langchain: Database, check: Checker
) -> None:
    both = ("langchain_pg_collection", EMBEDDINGS)

    assert check(langchain.url, truncate_tables=both).of_status("warning", "failed") == []


def test_a_table_that_somebody_holds_now_is_a_warning(langchain: Database, check: Checker) -> None:
    with langchain.session() as holder, holder.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {EMBEDDINGS} IN ACCESS EXCLUSIVE MODE")

        found = check(langchain.url, lock_timeout=0.05)

    assert found[f"tables: {EMBEDDINGS}"].status == "warning"
    assert "lock timeout" in found[f"tables: {EMBEDDINGS}"].message
    assert found.of_status("failed") == []


def test_too_few_connections_are_a_warning_with_the_number_that_there_is(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    grant(langchain, role)
    langchain.run(f"ALTER ROLE {role} CONNECTION LIMIT 3")

    told = check(url, workers=4)["database: workers"]

    assert told.status == "warning"
    assert told.message.startswith("2 of 4 more connections could share the snapshot: ")
    assert "too many connections for role" in told.message
    assert "--workers 2" in str(told.advice)


def test_without_pgvector_it_may_be_the_wrong_database(database: Database, check: Checker) -> None:
    database.run("DROP EXTENSION vector; CREATE TABLE docs (id int)")

    found = check(database.url, tables=("docs",), truncate_tables=())

    assert found["database: pgvector"].status == "warning"
    assert found["tables: docs"].status == "ok"


@pytest.mark.parametrize(
    ("off", "status", "side"),
    [
        (timedelta(seconds=2), "ok", "agrees"),
        (timedelta(seconds=20), "warning", "behind"),
        (timedelta(seconds=-20), "warning", "ahead of"),
        (timedelta(minutes=20), "failed", "behind"),
    ],
    ids=str,
)
def test_a_clock_that_goes_wrong_is_found_out(
    langchain: Database, check: Checker, off: timedelta, status: str, side: str
) -> None:
    found = check(langchain.url, now=clock_off_by(off))

    for name in ("clock: server", "clock: storage"):
        assert found[name].status == status
        assert side in found[name].message
        assert (found[name].advice is None) == (status == "ok")


@pytest.mark.parametrize(
    ("changed", "name", "said"),
    [
        ({"version_num": 130020}, "server", "read in one stream"),
        ({"in_recovery": True}, "standby", "nothing can be truncated"),
        ({"encoding": "SQL_ASCII"}, "encoding", "not UTF-8"),
    ],
    ids=["old", "standby", "ascii"],
)
def test_a_server_that_can_do_less_is_a_warning(
    langchain: Database,
    check: Checker,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    name: str,
    said: str,
) -> None:
    """Of servers that are not there to be tried."""
    monkeypatch.setattr(
        database_check,
        "identify_server",
        lambda cursor: replace(identify_server(cursor), **changed),
    )

    told = check(langchain.url)[f"database: {name}"]

    assert told.status == "warning"
    assert said in told.message


@pytest.mark.parametrize("cursor_works", [True, False])
def test_a_server_that_refuses_copy_fails_with_the_way_around_it(
    langchain: Database, check: Checker, monkeypatch: pytest.MonkeyPatch, cursor_works: bool
) -> None:
    """As a proxy does; there is none to be tried."""

    def refuse(*_: object) -> None:
        raise DatabaseError("Could not read the table: COPY is not supported. See its manual.")

    monkeypatch.setattr(tables_check, "copy_sample", refuse)
    if cursor_works:
        by_cursor = check(langchain.url, export_method="cursor")
        assert by_cursor[f"tables: {EMBEDDINGS}"].status == "ok"
    else:
        monkeypatch.setattr(tables_check, "fetch_sample", refuse)

    told = check(langchain.url)[f"tables: {EMBEDDINGS}"]

    assert told.status == "failed"
    assert told.message == "Could not read the table: COPY is not supported"
    assert ("export_method cursor" in str(told.advice)) == cursor_works


def test_what_a_backup_takes_is_estimated_from_rows_all_over_the_table(
    langchain: Database, backup: BackupMaker, check: Checker
) -> None:
    langchain.run(
        "INSERT INTO langchain_pg_embedding (id) SELECT 'old-' || i FROM generate_series(1, 300) i;"
        "INSERT INTO langchain_pg_embedding (id, embedding, document)"
        " SELECT 'more-' || i, ARRAY[random(), random(), i]::vector, repeat('word ', 20)"
        " FROM generate_series(1, 3000) i"
    )
    langchain.run("ANALYZE")
    made = backup(langchain.url)

    expected = check_database(check.plan(langchain.url)).expected_size

    taken = sum(made.file(table).bytes for table in LANGCHAIN)
    assert expected is not None
    assert 0.8 * taken < expected < 1.25 * taken


def test_partitions_and_the_empty_table_are_sampled_too(database: Database, check: Checker) -> None:
    database.run(
        "CREATE TABLE events (id int, body text) PARTITION BY RANGE (id);"
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (5000);"
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (5000) TO (9000);"
        "INSERT INTO events SELECT i, repeat('word', 50) FROM generate_series(0, 8999) i;"
        "CREATE TABLE empty (id int)"
    )
    tables = ("events", "empty")
    uncounted = check(database.url, tables=tables, truncate_tables=())
    database.run("ANALYZE")
    counted = check(database.url, tables=tables, truncate_tables=())

    assert "rows not counted yet" in uncounted["tables: events"].message
    assert "about 9000 rows" in counted["tables: events"].message
    assert "about 1.8 MB as CSV" in counted["tables: events"].message
    assert counted["tables: empty"].message.endswith("about 0.0 B as CSV")


def test_a_table_that_can_not_be_read_keeps_no_other_check_from_being_made(
    langchain: Database, check: Checker
) -> None:
    langchain.run(
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far;"
        "CREATE FOREIGN TABLE remote (id int) SERVER away"
    )

    found = check(langchain.url, tables=("remote", EMBEDDINGS))

    assert found.of_status("failed") == ["tables: remote"]
    assert "has no handler" in found["tables: remote"].message
    assert "cursor" not in str(found["tables: remote"].advice)
    assert found[f"tables: {EMBEDDINGS}"].status == "ok"
    assert found["tables: definitions"].status == "ok"
    assert found["database: workers"].status == "ok"
