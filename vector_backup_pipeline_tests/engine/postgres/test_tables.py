"""Which tables a backup finds and reads, and its errors about the others."""

import pytest

from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    PermissionDenied,
)
from vector_backup_pipeline.engine.results import FailedTable
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_rows import METHODS, rows_in

RELATIONS = """
    CREATE TABLE docs (id int PRIMARY KEY, v vector(2), owner text);
    INSERT INTO docs VALUES (1, '[1,2]', 'me'), (2, '[3,4]', 'you');
    CREATE VIEW a_view AS SELECT * FROM docs;
    CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM docs;
    CREATE SEQUENCE a_sequence;
    CREATE TYPE a_type AS (n int);
    CREATE TABLE "Docs" (id int);
    CREATE SCHEMA app;
    CREATE TABLE app.docs (id int);
"""


def error_of(made: FinishedBackup) -> BackupError:
    assert made.error is not None
    assert not [name for name in made.names if name.endswith((".csv", ".tmp"))]
    return made.error


@pytest.fixture
def relations(database: Database) -> Database:
    database.run(RELATIONS)
    return database


@pytest.fixture
def reader(relations: Database) -> str:
    """A role without any rights on the tables; its name."""
    role = f"reader_of_{relations.name}"
    relations.create_role(role)
    return role


def test_only_tables_are_backed_up_and_their_names_taken_literally(
    relations: Database, backup: BackupMaker
) -> None:
    kinds = {
        "a_view": "view a_view",
        "a_matview": "materialized view",
        "a_sequence": "sequence",
        "docs_pkey": "index",
        "a_type": "composite type",
        "public.a_view": "view a_view",
    }
    missing = (
        *("nowhere", "DOCS", "docs ", "app.nowhere", "public.app.docs", '"app.docs"', "%", "doc_"),
        "x'; DROP TABLE docs; --",
        # Not truncated to the server's length limit.
        *("x" * 64, "public." + "x" * 64),
    )
    relations.run(f"CREATE TABLE {'x' * 63} (id int)")

    made = backup(relations.url, tables=(*kinds, *missing))

    assert isinstance(error_of(made), InvalidParams)
    failed = made.result.tables_backed_up
    for name in (*kinds, *missing):
        table = failed[name]
        assert isinstance(table, FailedTable), name
        if name in kinds:
            assert f"{name} is not a table ({kinds[name]}" in table.error
        else:
            assert table.error_type == "TABLE_NOT_FOUND"
            assert name in table.error
            assert f"database {relations.name}" in table.error
    assert relations.ask_one("SELECT count(*) FROM docs") == 2


@pytest.mark.parametrize(
    ("grants", "missing"),
    [
        ("SELECT 1", "SELECT ON app.docs"),
        ("GRANT INSERT, UPDATE, TRUNCATE ON app.docs TO {role}", "SELECT ON app.docs"),
        ("GRANT SELECT (id) ON app.docs TO {role}", "SELECT ON app.docs"),
        (
            "GRANT SELECT ON app.docs TO {role}; REVOKE USAGE ON SCHEMA app FROM {role}",
            "USAGE ON SCHEMA app",
        ),
    ],
    ids=["nothing granted", "all but SELECT", "some columns only", "no USAGE"],
)
def test_a_role_that_may_not_read_is_shown_the_missing_grant(
    relations: Database, reader: str, backup: BackupMaker, grants: str, missing: str
) -> None:
    relations.run(f"GRANT USAGE ON SCHEMA app TO {reader}")
    relations.run(grants.format(role=reader))

    error = error_of(backup(relations.url_as(reader), tables=("app.docs",)))

    assert isinstance(error, PermissionDenied)
    assert missing in error.message


def test_connect_and_select_are_all_that_a_backup_needs(
    relations: Database, reader: str, backup: BackupMaker
) -> None:
    relations.run(f"GRANT SELECT ON docs TO {reader}")
    for method in METHODS:
        made = backup(relations.url_as(reader), tables=("docs",), export_method=method, workers=4)

        assert made.error is None
        assert rows_in(made.path("docs")) == [b'1,"[1,2]",me', b'2,"[3,4]",you']


@pytest.mark.parametrize(
    ("right", "rows"),
    [
        ("SELECT 1", None),
        ("ALTER TABLE docs OWNER TO {role}, FORCE ROW LEVEL SECURITY", None),
        ("ALTER TABLE docs OWNER TO {role}", 2),
        ("ALTER ROLE {role} BYPASSRLS", 2),
    ],
)
def test_a_policy_that_would_hide_rows_is_an_error_and_not_a_gap(
    relations: Database, reader: str, backup: BackupMaker, right: str, rows: int | None
) -> None:
    relations.run(
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY mine ON docs USING (owner = 'me'); GRANT SELECT ON docs TO {reader}"
    )
    relations.run(right.format(role=reader))
    for method in METHODS:
        made = backup(relations.url_as(reader), tables=("docs",), export_method=method)

        if rows is None:
            assert isinstance(error_of(made), PermissionDenied)
            assert "BYPASSRLS" in error_of(made).message
        else:
            assert made.error is None
            assert made.file("docs").rows == rows


def test_a_policy_on_a_partition_hides_nothing_when_its_parent_is_backed_up(
    any_database: Database, backup: BackupMaker
) -> None:
    role = f"reader_of_{any_database.name}"
    url = any_database.create_role(role)
    any_database.run(
        "CREATE TABLE parts (id int) PARTITION BY LIST (id);"
        "CREATE TABLE one PARTITION OF parts FOR VALUES IN (1);"
        "CREATE TABLE rest PARTITION OF parts DEFAULT;"
        "INSERT INTO parts SELECT generate_series(1, 5);"
        "ALTER TABLE one ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON one USING (false);"
        f"GRANT SELECT ON parts, one, rest TO {role}"
    )

    made = backup(url, tables=("parts", "one"))

    assert made.file("parts").rows == 5
    assert isinstance(made.error, PermissionDenied)


def test_one_table_under_two_names_is_written_once(
    relations: Database, backup: BackupMaker
) -> None:
    made = backup(relations.url, tables=("docs", "public.docs"))

    assert isinstance(made.error, InvalidParams)
    assert len([name for name in made.names if name.endswith(".csv")]) <= 1


def test_two_tables_whose_files_would_share_a_name_are_never_mixed(
    relations: Database, backup: BackupMaker
) -> None:
    relations.run('CREATE TABLE "app.docs" (other text)')

    made = backup(relations.url, tables=("app.docs", '"app.docs"'))

    assert made.error is not None
    assert made.path("app.docs").read_bytes() == b"id\n"
