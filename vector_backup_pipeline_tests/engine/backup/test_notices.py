"""Notices about tables that ordinary queries cannot read, and about what a backup lacks."""

from typing import Any

import pytest

from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_checkup import Checker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_rows import METHODS

# The function is replaced after the index was made, since servers from 17 on refuse to make it.
_UNIT = "CREATE OR REPLACE FUNCTION unit(vector) RETURNS vector LANGUAGE sql IMMUTABLE AS "
_QUALIFIED = f"{_UNIT} 'SELECT public.l2_normalize($1)';"
_UNQUALIFIED = f"{_UNIT} 'SELECT l2_normalize($1)';"
_INDEX = "USING hnsw ((unit(embedding)::vector(3)) vector_l2_ops);"
_ROWS = """
    INSERT INTO docs SELECT i, 'docs', ARRAY[i, 1, 2]::vector FROM generate_series(1, 50) i;
"""
ORDINARY = f"""
    CREATE TABLE docs (id int PRIMARY KEY, of regclass, embedding vector(3));
    CREATE INDEX ON docs {_INDEX}
    {_ROWS}
"""
PARTITIONED = f"""
    CREATE TABLE docs (id int, of regclass, embedding vector(3)) PARTITION BY HASH (id);
    CREATE TABLE docs_0 PARTITION OF docs FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE docs_1 PARTITION OF docs FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE INDEX ON docs_1 {_INDEX}
    {_ROWS}
"""
STATISTICS = f"""
    CREATE TABLE docs (id int PRIMARY KEY, of regclass, embedding vector(3));
    CREATE STATISTICS about ON (unit(embedding)), id FROM docs;
    {_ROWS}
"""
BY_KEY = f"""
    CREATE TABLE docs (id int, of regclass, embedding vector(3))
        PARTITION BY LIST (unit(embedding));
    CREATE TABLE docs_0 PARTITION OF docs DEFAULT;
    {_ROWS}
"""
DOCS: dict[str, Any] = {"tables": ("docs",), "truncate_tables": ("docs",)}


@pytest.mark.parametrize("tables", [ORDINARY, PARTITIONED, STATISTICS])
def test_a_table_that_no_query_can_read_gives_the_same_bytes_and_a_notice(
    database: Database, backup: BackupMaker, check: Checker, tables: str
) -> None:
    database.run(_QUALIFIED + tables)
    before = backup(database.url, **DOCS)
    assert before.result.notices == []
    database.run(_UNQUALIFIED)
    for method in METHODS:
        after = backup(database.url, export_method=method, **DOCS)
        report = check(database.url, export_method=method, **DOCS)

        assert after.error is None
        (notice,) = after.result.notices
        assert "docs is read in one stream" in notice
        assert notice in (after.directory / "vector_backup_log.txt").read_text()
        assert after.file("docs").rows == 50
        assert after.file("docs").digest == before.file("docs").digest
        assert report.of_status("failed") == []
        assert report["tables: docs"].status == "ok"
        assert report["tables: queries of docs"].status == "warning"


def test_a_partition_key_that_no_query_can_use_stops_nothing(
    database: Database, backup: BackupMaker, check: Checker
) -> None:
    database.run(_QUALIFIED + BY_KEY + _UNQUALIFIED)
    for method in METHODS:
        made = backup(database.url, export_method=method, **DOCS)

        assert made.error is None
        assert made.file("docs").rows == 50
        assert made.result.notices == []
        assert check(database.url, export_method=method, **DOCS)["tables: docs"].status == "ok"


def test_such_a_table_can_be_stored_in_a_binary_file(
    database: Database, backup: BackupMaker
) -> None:
    database.run(_QUALIFIED + ORDINARY + "ALTER TABLE docs DROP COLUMN of;" + _UNQUALIFIED)
    made = backup(database.url, format="binary", **DOCS)

    assert made.error is None
    assert made.file("docs").rows == 50


def test_such_a_tree_is_read_where_only_its_parent_may_be(
    database: Database, backup: BackupMaker
) -> None:
    database.run(_QUALIFIED + PARTITIONED + _UNQUALIFIED)
    url = database.create_role("reads_parents")
    database.run("GRANT SELECT ON docs TO reads_parents")
    rows = [backup(url, export_method=method, **DOCS).file("docs").rows for method in METHODS]

    assert rows == [50, 50]


@pytest.mark.parametrize("any_database", [16], indirect=True)
@pytest.mark.parametrize("tables", [ORDINARY, PARTITIONED, BY_KEY])
def test_such_a_table_is_truncated(
    any_database: Database, backup: BackupMaker, tables: str
) -> None:
    """On the newest server that takes such an index."""
    any_database.run(_QUALIFIED + tables + _UNQUALIFIED)
    made = backup(any_database.url, truncate_vector_tables=True, **DOCS)

    assert made.error is None
    assert made.manifest.truncate == "done"
    assert any_database.ask_one("SELECT count(*) FROM docs") == 0


def test_a_trigger_on_truncate_sees_its_own_search_path(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run("""
        CREATE TABLE emptied (at timestamptz);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO emptied VALUES (now()); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER TRUNCATE ON langchain_pg_embedding EXECUTE FUNCTION note()
    """)
    made = backup(langchain.url, truncate_vector_tables=True)

    assert made.error is None
    assert langchain.ask_one("SELECT count(*) FROM emptied") == 1


def test_a_role_whose_transactions_only_read_by_default_truncates(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run(f"ALTER DATABASE {langchain.name} SET default_transaction_read_only = on")
    made = backup(langchain.url, truncate_vector_tables=True)

    assert made.error is None
    assert made.manifest.truncate == "done"


def test_a_sequence_that_the_role_cannot_read_is_reported_with_its_grant(
    database: Database, backup: BackupMaker, check: Checker
) -> None:
    database.run("""
        CREATE SCHEMA "a%";
        CREATE SEQUENCE "a%".ids;
        CREATE TABLE docs (id bigint DEFAULT nextval('"a%".ids'),
                           other int GENERATED ALWAYS AS IDENTITY);
        INSERT INTO docs VALUES (DEFAULT, DEFAULT)
    """)
    url = database.create_role("reads_no_sequence")
    database.run("GRANT SELECT ON docs TO reads_no_sequence")
    made = backup(url, **DOCS)
    report = check(url, **DOCS)

    grants = [
        'GRANT USAGE ON SCHEMA "a%" TO reads_no_sequence; '
        'GRANT SELECT ON SEQUENCE "a%".ids TO reads_no_sequence;',
        "GRANT SELECT ON SEQUENCE public.docs_other_seq TO reads_no_sequence;",
    ]
    names = ["a%.ids", "public.docs_other_seq"]
    for name, notice, statements in zip(names, sorted(made.result.notices), grants, strict=True):
        assert f"the value of sequence {name} of docs cannot be read" in notice
        assert notice.endswith(f"Run: {statements}")
        assert report[f"tables: sequence {name}"].advice == f"Run: {statements}"
        database.run(statements)
    (table,) = made.manifest.definitions
    assert [sequence.last_value for sequence in table.sequences] == [None, None]
    assert backup(url, **DOCS).result.notices == []


def test_large_objects_are_not_in_a_backup_and_get_a_notice(
    database: Database, backup: BackupMaker, check: Checker
) -> None:
    database.run("CREATE DOMAIN lo AS oid; CREATE TABLE docs (id int, scan lo, plain oid)")
    made = backup(database.url, **DOCS)

    (notice,) = made.result.notices
    assert "column scan of docs refers to large objects" in notice
    assert check(database.url, **DOCS)["tables: large objects of docs"].status == "warning"
