"""The database side of a dry run."""

from typing import Any

import pytest

from vector_backup_pipeline.engine import range_readers
from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres import copy_out
from vector_backup_pipeline.engine.postgres.connection import Connection
from vector_backup_pipeline_tests.faults.watching import wait_until
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Checker
from vector_backup_pipeline_tests.fix_postgres import Database


@pytest.fixture
def role(langchain: Database) -> str:
    """A role that may connect, and no more."""
    return f"checker_of_{langchain.name}"


@pytest.fixture
def url(langchain: Database, role: str) -> str:
    return langchain.create_role(role, "geheim-4711")


def test_a_complete_configuration_passes(any_database: Database, check: Checker) -> None:
    any_database.run("CREATE TABLE docs (v vector(2)); INSERT INTO docs VALUES ('[1,2]')")

    report = check(any_database.url, tables=("docs",), truncate_tables=("docs",))

    assert report.of_status("failed", "warning", "skipped") == []
    assert f"connected to {any_database.name} on " in report["database: connection"].message
    assert "PostgreSQL 1" in report["database: server"].message
    assert ", pgvector " in report["database: server"].message
    assert report["database: workers"].message == "2 connections share one snapshot"
    assert report["tables: docs"].message.startswith("can be read: ")
    assert check.paths == []


def test_a_check_changes_nothing_and_closes_its_connections(
    langchain: Database, check: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    before = langchain.ask_one(
        "SELECT (SELECT count(*) FROM langchain_pg_collection)"
        " + (SELECT count(*) FROM langchain_pg_embedding)"
    )
    # A session reports what it wrote when it ends, or up to a second later.
    wait_until(lambda: langchain.ask_one(query) == before)
    opened: list[Connection] = []
    connect = Connection.__init__

    def remembering(self: Connection, *arguments: Any) -> None:
        connect(self, *arguments)
        opened.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "__init__", remembering)
        check(langchain.url)

    assert langchain.ask_one(query) == before
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58
    assert len(opened) == 3, "the coordinator and two workers"
    assert all(connection.closed for connection in opened)


def test_without_a_server_the_storage_is_still_tried(check: Checker) -> None:
    report = check("postgresql://u:geheim@127.0.0.1:1/d")

    assert report.of_status("failed") == ["database: connection"]
    assert report["database: connection"].message.startswith("No database server was reached: ")
    assert report.of_status("skipped") == ["tables: tables", "space: free space", "clock: server"]
    assert report["storage: put"].status == "ok"
    assert "geheim" not in report.text


def test_the_printed_grants_are_all_that_a_role_needs(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    langchain.run('CREATE SCHEMA "my App"; CREATE TABLE "my App".docs (id bigserial)')
    tables: dict[str, Any] = {
        "tables": ('"my App".docs', EMBEDDINGS),
        "truncate_tables": (EMBEDDINGS,),
    }

    report = check(url, **tables)

    assert report.of_status("failed") == ['tables: "my App".docs', f"tables: {EMBEDDINGS}"]
    assert report[f"tables: {EMBEDDINGS}"].advice == (
        f"Run: GRANT SELECT ON public.{EMBEDDINGS} TO {role};"
    )
    printed = ""
    while advice := [a for f in report.findings if (a := f.advice) and a.startswith("Run: ")]:
        printed += " ".join(advice)
        langchain.run(" ".join(line.removeprefix("Run: ") for line in advice))
        report = check(url, **tables)
    assert report.of_status("failed", "warning", "skipped") == []
    for expected in (
        f'USAGE ON SCHEMA "my App" TO {role};',
        f'SELECT ON SEQUENCE "my App".docs_id_seq TO {role};',
        f"TRUNCATE ON public.{EMBEDDINGS} TO {role};",
    ):
        assert f"GRANT {expected}" in printed


def test_a_missing_truncate_privilege_is_a_warning(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    langchain.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")

    report = check(url)

    assert report.of_status("failed") == []
    assert report[f"tables: truncate {EMBEDDINGS}"].status == "warning"
    assert "The backup is not affected." in report[f"tables: truncate {EMBEDDINGS}"].message


def test_a_table_that_cannot_be_backed_up_does_not_stop_the_others(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    langchain.run(
        "CREATE VIEW v AS SELECT 1 AS one;"
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far;"
        "CREATE FOREIGN TABLE remote (id int) SERVER away;"
        f"CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    messages = {
        "Docs": "Names are case-sensitive",
        "v": "not a table",
        "remote": "has no handler",
        "guarded": "Row-level security would hide rows",
    }

    report = check(url, tables=(*messages, EMBEDDINGS))

    assert report.of_status("failed") == [f"tables: {table}" for table in messages]
    for table, message in messages.items():
        assert message in report[f"tables: {table}"].message
    assert report[f"tables: {EMBEDDINGS}"].status == "ok"


def test_a_locked_table_is_a_warning(langchain: Database, check: Checker) -> None:
    with langchain.session() as holder, holder.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {EMBEDDINGS} IN ACCESS EXCLUSIVE MODE")

        report = check(langchain.url, lock_timeout=0.05)

    assert report[f"tables: {EMBEDDINGS}"].status == "warning"
    assert "lock timeout" in report[f"tables: {EMBEDDINGS}"].message
    assert report.of_status("failed") == []


def test_too_few_connections_are_a_warning_with_their_number(
    langchain: Database, url: str, role: str, check: Checker
) -> None:
    langchain.run(f"ALTER ROLE {role} CONNECTION LIMIT 3")

    finding = check(url, workers=4)["database: workers"]

    assert finding.status == "warning"
    assert finding.message.startswith("only 2 of 4 connections can share the snapshot: ")
    assert "too many connections for role" in finding.message
    assert "--workers 2" in str(finding.advice)


def test_without_pgvector_it_may_be_the_wrong_database(database: Database, check: Checker) -> None:
    database.run("DROP EXTENSION vector; CREATE TABLE docs (id int)")

    report = check(database.url, tables=("docs",), truncate_tables=())

    assert report["database: server"].status == "warning"
    assert report["tables: docs"].status == "ok"


@pytest.mark.parametrize("method", ["copy", "cursor"])
def test_the_first_row_is_read_as_a_backup_reads_it(
    langchain: Database, check: Checker, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A proxy may refuse COPY."""

    def refuse(*_: object) -> None:
        raise DatabaseError("COPY is not supported.")

    monkeypatch.setattr(range_readers, "copy_range", refuse)

    finding = check(langchain.url, export_method=method)[f"tables: {EMBEDDINGS}"]

    assert finding.status == ("failed" if method == "copy" else "ok")
    assert ("COPY is not supported" in finding.message) == (method == "copy")


def test_one_row_of_every_kind_of_table_is_read(
    database: Database, check: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run(
        "CREATE TABLE events (id int, body text) PARTITION BY RANGE (id);"
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (5000);"
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (5000) TO (9000);"
        "INSERT INTO events SELECT i, repeat('word', 50) FROM generate_series(0, 8999) i;"
        "CREATE TABLE empty (id int); CREATE TABLE parent (id int);"
        "CREATE TABLE child () INHERITS (parent);"
        "CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION plus(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';"
        "CREATE TABLE unplannable (id int); INSERT INTO unplannable VALUES (1); ANALYZE;"
        "CREATE INDEX ON unplannable (plus(id));"
        "CREATE OR REPLACE FUNCTION plus(int) RETURNS int IMMUTABLE LANGUAGE sql"
        " AS 'SELECT one() + $1'"
    )
    tables = ("events", "empty", "parent", "unplannable")
    counts: list[int] = []

    def copy_range(*arguments: Any) -> int:
        counts.append(copy_out.copy_range(*arguments))
        return counts[-1]

    monkeypatch.setattr(range_readers, "copy_range", copy_range)

    for method in ("copy", "cursor"):
        report = check(database.url, tables=tables, truncate_tables=tables, export_method=method)

        assert report.of_status("failed") == []
        assert "about 9000 rows" in report["tables: events"].message
        assert "inheritance children" in report["tables: truncate parent"].message
        assert "one stream" in report["tables: queries of unplannable"].message
    assert sorted(counts) == [0, 0, 1, 1, 1]
