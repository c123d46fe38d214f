"""Every format with every compression comes back the same, and others can read it too."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.storage.local import LocalDirectory
from vector_backup_pipeline.engine.stored_files import check_rows
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS, Compression, Format
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import LANGCHAIN_TABLES, Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, everything_in

# Several ranges, blocks and frames a table.
MANY_ROWS = """
    INSERT INTO langchain_pg_embedding
        SELECT 'more-' || i, (SELECT uuid FROM langchain_pg_collection LIMIT 1),
               ARRAY[i, i / 3.0, -i]::vector, repeat('a "text", and ' || i || E'\\n', 40),
               CASE WHEN i % 3 = 0 THEN NULL ELSE jsonb_build_object('i', i) END
          FROM generate_series(1, 6000) i;
"""
COLLECTION, EMBEDDING = LANGCHAIN
EXTENSIONS = {
    ("csv", "none"): "csv",
    ("csv", "gzip"): "csv.gz",
    ("csv", "zstd"): "csv.zst",
    ("binary", "none"): "pgcopy",
    ("binary", "gzip"): "pgcopy.gz",
    ("binary", "zstd"): "pgcopy.zst",
}


@pytest.fixture
def corpus(any_database: Database) -> Database:
    any_database.run(LANGCHAIN_TABLES + MANY_ROWS)
    return any_database


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_what_was_backed_up_comes_back_the_same(
    corpus: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    form: Format,
    compression: Compression,
) -> None:
    before = everything_in(corpus)
    made = backup(corpus.url, format=form, compression=compression)
    assert made.error is None
    for table in LANGCHAIN:
        file = made.file(table)
        assert file.name == f"{table}_{made.stamp}.{EXTENSIONS[form, compression]}"
        assert (file.format, file.compression, file.digest.encoding) == (form, compression, form)
        check_rows(LocalDirectory(made.directory), file)

    corpus.run("DROP TABLE langchain_pg_embedding, langchain_pg_collection")
    done = restore.succeeds(corpus, timestamp="latest", workers=2)

    assert done.restored(EMBEDDING).digest_matches
    assert everything_in(corpus) == before


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("form", FORMATS)
def test_rows_go_into_several_connections_and_into_tables_that_are_there(
    corpus: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    in_scratch: None,
    form: Format,
    compression: Compression,
) -> None:
    before = everything_in(corpus)
    made = backup(corpus.url, format=form, compression=compression)

    corpus.run("DROP TABLE langchain_pg_embedding, langchain_pg_collection")
    restore.succeeds(corpus, timestamp="latest", workers=3)
    assert everything_in(corpus) == before

    corpus.run("DELETE FROM langchain_pg_embedding WHERE id LIKE 'doc-%'")
    restore.succeeds(corpus, timestamp="latest", on_conflict="skip")
    assert everything_in(corpus) == before
    restore.succeeds(corpus, timestamp="latest", truncate_before_restore=True)
    assert everything_in(corpus) == before
    assert made.file(EMBEDDING).rows == 6058


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_table_comes_back_empty(
    database: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    form: Format,
    compression: Compression,
) -> None:
    database.run("CREATE TABLE nothing (id int PRIMARY KEY, v vector(3))")
    made = backup(database.url, tables=("nothing",), format=form, compression=compression)
    check_rows(LocalDirectory(made.directory), made.file("nothing"))

    database.run("DROP TABLE nothing")
    done = restore.succeeds(database, timestamp="latest")

    assert done.restored("nothing").rows_restored == 0


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("form", FORMATS)
def test_psql_loads_the_file_with_copy(
    corpus: Database, backup: BackupMaker, form: Format, compression: Compression
) -> None:
    made = backup(corpus.url, format=form, compression=compression)
    plain = _unpacked(made, EMBEDDING, compression)
    options = "csv, header" if form == "csv" else "binary"

    corpus.run("CREATE TABLE loaded (LIKE langchain_pg_embedding)")
    corpus.psql(f"\\copy loaded from '{plain}' with (format {options})")

    assert corpus.ask("TABLE loaded EXCEPT TABLE langchain_pg_embedding") == []
    assert corpus.ask_one("SELECT count(*) FROM loaded") == 6058


def _unpacked(made: FinishedBackup, table: str, compression: Compression) -> Path:
    """By another tool than ours."""
    path = made.path(table)
    plain = made.directory / "plain"
    if compression == "none":
        return path
    if compression == "gzip":
        plain.write_bytes(subprocess.check_output(["zcat", path], timeout=60))
        with gzip.open(path) as file:
            assert file.read() == plain.read_bytes()
    else:
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        subprocess.run(["zstd", "-q", "-t", path], check=True, timeout=60)
        subprocess.run(["zstd", "-q", "-d", path, "-o", plain], check=True, timeout=60)
    return plain


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_duckdb_reads_a_csv_as_it_is(
    langchain: Database, backup: BackupMaker, compression: Compression
) -> None:
    langchain.run(MANY_ROWS)
    made = backup(langchain.url, compression=compression)

    found = duckdb.execute(
        "SELECT count(*), count(DISTINCT id), count(cmetadata), min(length(document)) "
        "FROM read_csv(?, header = true, max_line_size = 10000000)",
        [str(made.path(EMBEDDING))],
    )

    assert found.fetchall() == langchain.ask(
        "SELECT count(*), count(DISTINCT id), count(cmetadata), min(length(document)) "
        "FROM langchain_pg_embedding"
    )


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_level_can_be_asked_for(
    langchain: Database, backup: BackupMaker, compression: Compression, level: int
) -> None:
    langchain.run(MANY_ROWS)
    plain = backup(langchain.url).file(EMBEDDING).bytes

    made = backup(langchain.url, compression=compression, compression_level=level)

    check_rows(LocalDirectory(made.directory), made.file(EMBEDDING))
    assert made.file(EMBEDDING).bytes < plain / 5


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ("c regclass", "c (regclass)"),
        ("c public.pair", "c (public.pair)"),
        ("c public.mood[]", "c (public.mood[])"),
        ("c public.vector[]", "c (public.vector[])"),
        ("c aclitem", "c (aclitem)"),
    ],
)
def test_a_table_whose_binary_form_means_nothing_elsewhere_is_refused(
    database: Database, backup: BackupMaker, column: str, named: str
) -> None:
    database.run(
        "CREATE TYPE pair AS (a int, b int); CREATE TYPE mood AS ENUM ('sad', 'ok');"
        f"CREATE TABLE held (id int PRIMARY KEY, {column}); CREATE TABLE plain (m mood, v vector)"
    )

    made = backup(database.url, tables=("held", "plain"), format="binary")

    assert isinstance(made.error, InvalidParams)
    assert f"held can't be backed up in format 'binary': the binary form of {named}" in str(
        made.error
    )
    assert "Use format 'csv'" in str(made.error)
    assert made.file("plain").format == "binary"
    assert backup(database.url, tables=("held", "plain")).error is None


def test_what_a_table_computes_itself_is_no_hindrance(
    database: Database, backup: BackupMaker
) -> None:
    database.run(
        "CREATE TYPE pair AS (a int, b int);"
        "CREATE TABLE t (id int, p pair GENERATED ALWAYS AS (ROW(id, id)::pair) STORED)"
    )

    assert backup(database.url, tables=("t",), format="binary").error is None


@pytest.fixture
def of_another_version(
    server16: EmbeddedServer, database: Database, backup: BackupMaker
) -> FinishedBackup:
    """A binary backup of PostgreSQL 16."""
    name = "elsewhere_16"
    server16.create_database(name)
    source = Database(server16, name)
    try:
        source.run("CREATE EXTENSION vector;" + LANGCHAIN_TABLES)
        return backup(source.url, format="binary")
    finally:
        server16.drop_database(name)


def test_binary_rows_of_another_server_version_are_refused_unless_allowed(
    database: Database, restore: RestoreMaker, of_another_version: FinishedBackup
) -> None:
    file = of_another_version.file(EMBEDDING).name
    restore.fails(
        database,
        "INVALID_PARAMS",
        file,
        "written by PostgreSQL 16.",
        "the target is 18.",
        "allow_other_versions",
        "format csv",
        timestamp="latest",
    )

    done = restore.succeeds(database, timestamp="latest", allow_other_versions=True)

    assert done.restored(EMBEDDING).digest_matches
    assert database.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58


def test_binary_rows_for_a_column_of_another_type_are_refused(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url, format="binary", tables=(COLLECTION,))
    langchain.run(
        "DROP TABLE langchain_pg_embedding; TRUNCATE langchain_pg_collection;"
        "ALTER TABLE langchain_pg_collection ALTER cmetadata TYPE jsonb"
    )

    restore.fails(
        langchain,
        "INVALID_PARAMS",
        "The column cmetadata of public.langchain_pg_collection has type jsonb, in the backup json",
        timestamp="latest",
    )


def test_collections_are_found_in_binary_and_compressed_files(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(
        "INSERT INTO langchain_pg_embedding SELECT 'other', uuid, '[1,2,3]', 'd', '{}' "
        "FROM langchain_pg_collection WHERE name = 'collection 3'"
    )
    backup(langchain.url, format="binary", compression="zstd")
    langchain.run("DROP TABLE langchain_pg_embedding, langchain_pg_collection")

    restore.succeeds(langchain, timestamp="latest", collections=("collection 3",))

    assert langchain.ask("SELECT name FROM langchain_pg_collection") == [("collection 3",)]
    assert langchain.ask("SELECT id FROM langchain_pg_embedding") == [("other",)]


def test_collections_whose_identity_is_a_text_are_found_in_binary_files(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE langchain_pg_collection (uuid varchar PRIMARY KEY, name varchar);"
        "INSERT INTO langchain_pg_collection VALUES ('one', 'first'), ('two', 'second')"
    )
    backup(database.url, format="binary", tables=(COLLECTION,))
    database.run("DROP TABLE langchain_pg_collection")

    restore.succeeds(database, timestamp="latest", collections=("second",))

    assert database.ask("TABLE langchain_pg_collection") == [("two", "second")]
