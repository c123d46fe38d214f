"""Round trips of every format and compression, also read by other tools."""

import gzip
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.stored_files import check_rows
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS, Compression, Format
from vector_backup_pipeline_tests.faults.watching import count
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import (
    LANGCHAIN_TABLES,
    Database,
    new_database,
)
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, Saved, everything_in

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


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_form_is_read_by_other_tools_and_comes_back_the_same(
    langchain: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    in_staging: None,
    form: Format,
    compression: Compression,
) -> None:
    langchain.run(MANY_ROWS + "CREATE TABLE nothing (id int PRIMARY KEY, v vector(3))")
    before = everything_in(langchain)
    tables = (*LANGCHAIN, "nothing")
    made = backup(langchain.url, tables=tables, format=form, compression=compression)
    assert made.error is None
    for table in tables:
        file = made.file(table)
        assert file.name == f"{table}_{made.stamp}.{EXTENSIONS[form, compression]}"
        assert (file.format, file.compression, file.digest.encoding) == (form, compression, form)
        check_rows(BackupDirectory(LocalStore(made.directory)), file)
    assert made.file(EMBEDDING).rows == 6058

    langchain.run("CREATE TABLE loaded (LIKE langchain_pg_embedding)")
    options = "csv, header" if form == "csv" else "binary"
    plain = _unpacked(made, EMBEDDING, compression)
    langchain.psql(f"\\copy loaded from '{plain}' with (format {options})")
    assert langchain.ask("TABLE loaded EXCEPT TABLE langchain_pg_embedding") == []
    assert langchain.ask_one("SELECT count(*) FROM loaded") == 6058
    if form == "csv":
        counts = "SELECT count(*), count(DISTINCT id), count(cmetadata), min(length(document)) FROM"
        cursor = duckdb.execute(
            f"{counts} read_csv(?, header = true, max_line_size = 10000000)",
            [str(made.path(EMBEDDING))],
        )
        assert cursor.fetchall() == langchain.ask(f"{counts} langchain_pg_embedding")

    langchain.run("DROP TABLE loaded, nothing, langchain_pg_embedding, langchain_pg_collection")
    done = restore.succeeds(langchain, workers=3)
    assert all(done.restored(table).digest_matches for table in tables)
    assert everything_in(langchain) == before
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id LIKE 'doc-%'")
    restore.succeeds(langchain, on_conflict="skip")
    assert everything_in(langchain) == before
    restore.succeeds(langchain, truncate_before_restore=True)
    assert everything_in(langchain) == before


def _unpacked(made: FinishedBackup, table: str, compression: Compression) -> Path:
    """Decompressed by another tool."""
    path = made.path(table)
    plain = made.directory / "plain"
    if compression == "none":
        return path
    if compression == "gzip":
        plain.write_bytes(subprocess.check_output(["zcat", path], timeout=60))
        with gzip.open(path) as file:
            assert file.read() == plain.read_bytes()
    elif shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    else:
        subprocess.run(["zstd", "-q", "-t", path], check=True, timeout=60)
        subprocess.run(["zstd", "-q", "-d", path, "-o", plain], check=True, timeout=60)
    return plain


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ("c regclass", "c (regclass)"),
        ("c public.pair", "c (public.pair)"),
        ("c public.mood[]", "c (public.mood[])"),
        ("c public.vector[]", "c (public.vector[])"),
        ("c public.moods", "c (public.moods)"),
        ("c aclitem", "c (aclitem)"),
    ],
)
def test_a_table_whose_binary_form_means_nothing_elsewhere_is_refused(
    database: Database, backup: BackupMaker, column: str, named: str
) -> None:
    database.run(
        "CREATE TYPE pair AS (a int, b int); CREATE TYPE mood AS ENUM ('sad', 'ok');"
        "CREATE DOMAIN moods AS mood[];"
        f"CREATE TABLE held (id int PRIMARY KEY, {column}); CREATE TABLE plain (m mood, v vector)"
    )

    made = backup(database.url, tables=("held", "plain"), format="binary")

    assert isinstance(made.error, InvalidParams)
    assert f"held cannot be backed up in format 'binary': the binary form of {named}" in str(
        made.error
    )
    assert "Use format 'csv'" in str(made.error)
    assert made.file("plain").format == "binary"
    assert backup(database.url, tables=("held", "plain")).error is None


def test_a_generated_column_may_have_any_type(saved: Saved) -> None:
    saved(
        "CREATE TYPE pair AS (a int, b int);"
        "CREATE TABLE t (id int, p pair GENERATED ALWAYS AS (ROW(id, id)::pair) STORED)",
        "t",
        format="binary",
    )


def test_binary_rows_of_another_server_version_are_refused_unless_allowed(
    server16: EmbeddedServer, database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    with new_database(server16, "elsewhere_16") as source:
        source.run("CREATE EXTENSION vector;" + LANGCHAIN_TABLES)
        file = backup(source.url, format="binary").file(EMBEDDING).name
    words = ("written by PostgreSQL 16.", "the target is 18.", "allow_other_versions", "format csv")

    restore.fails(database, "INVALID_PARAMS", file, *words)
    done = restore.succeeds(database, allow_other_versions=True)

    assert done.restored(EMBEDDING).digest_matches
    assert count(database) == 58


def test_binary_rows_for_a_column_of_another_type_are_refused(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url, format="binary", tables=(COLLECTION,))
    langchain.run(
        "DROP TABLE langchain_pg_embedding; TRUNCATE langchain_pg_collection;"
        "ALTER TABLE langchain_pg_collection ALTER cmetadata TYPE jsonb"
    )

    words = "The column cmetadata of public.langchain_pg_collection has type jsonb"
    restore.fails(langchain, "INVALID_PARAMS", words, "but json in the backup")
