"""The older system's files, written as it wrote them, adopted, and restored into LangChain's
tables."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.file_names import manifest_name
from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of
from vector_backup_pipeline_tests.fix_sets import SetWriter

STAMP = "20240102_030405"

# Values that Python's repr and JSON write differently, and ambiguous ones.
_METADATA: list[Any] = [
    {"id": "x", "createdat": None, "is": True, "not": False},
    {"quoted": "it's", "double": '"', "both": 'it\'s "so"', "back": "C:\\new\\table", "empty": ""},
    {"lines": "a\nb\r\nc\td", "unicode": "Größe 漢字 😀", "control": "\x01\x7f\x85\u2028"},
    {
        "numbers": [0, -1, 1.5, 1e300, 1e-7, 12345678901234567890],
        "nested": [[], {}, [{"a": [None]}]],
    },
    {"None": "None", "True": "True", "null": "null", "comma": "a,b", "braces": "{'a': 1}"},
    [],
    {},
    [1, "two", None],
    {"nothing": None},
]

_MORE = """
    TRUNCATE langchain_pg_collection, langchain_pg_embedding;
    INSERT INTO langchain_pg_collection (name, cmetadata)
        VALUES ('one', '{"a": null}'), ('two', NULL);
"""
_INSERT = """
    INSERT INTO langchain_pg_embedding (id, collection_id, embedding, document, cmetadata)
        VALUES (%s, (SELECT uuid FROM langchain_pg_collection WHERE name = 'one'), %s, %s, %s)
"""


@pytest.fixture
def filled(langchain: Database) -> Database:
    """LangChain's tables with metadata and documents of every kind."""
    langchain.run(_MORE)
    for number, metadata in enumerate(_METADATA):
        document = f'line {number}\n"quoted", and\r\nmore' if number % 2 else f"plain {number}"
        langchain.run(
            _INSERT, [f"d{number}", f"[{number},0.1,-1e-7]", document, json.dumps(metadata)]
        )
    langchain.run(_INSERT, ["bare", None, None, None])
    return langchain


def older_backup(database: Database, root: Path, line_end: str = "\r\n") -> Path:
    """An adopted backup of the older service, which fetched rows with the driver and handed each to
    `csv.writer`."""
    directory = write_older_pair(database, root, line_end)
    SetWriter(directory).adopt()
    return directory


def write_older_pair(database: Database, root: Path, line_end: str = "\r\n") -> Path:
    directory = root / "vector_bak"
    directory.mkdir(exist_ok=True)
    for table in (COLLECTIONS, EMBEDDINGS):
        with database.session() as session, session.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
            assert cursor.description is not None
            with (directory / f"{table}_{STAMP}.csv").open(
                "w", newline="", encoding="utf-8"
            ) as file:
                writer = csv.writer(file, lineterminator=line_end)
                writer.writerow([column.name for column in cursor.description])
                writer.writerows(cursor.fetchall())
    return directory


@pytest.fixture
def written(filled: Database, backup: BackupMaker) -> Path:
    """The directory of an older backup of `filled`."""
    return older_backup(filled, backup.root)


def _manifest(directory: Path) -> Path:
    return directory / manifest_name(STAMP)


def _path(directory: Path, table: str = EMBEDDINGS) -> Path:
    return directory / f"{table}_{STAMP}.csv"


@pytest.mark.parametrize(("timestamp", "line_end"), [("latest", "\n"), (STAMP, "\r\n")])
def test_every_row_comes_back_and_json_is_json(
    filled: Database, restore: RestoreMaker, timestamp: str, line_end: str
) -> None:
    before = rows_of(filled)
    written = older_backup(filled, restore.root, line_end)
    assert b"'createdat': None" in _path(written).read_bytes()

    done = restore.succeeds(filled, timestamp=timestamp, truncate_before_restore=True)

    assert rows_of(filled) == before
    assert done.restored(EMBEDDINGS).rows_restored == len(_METADATA) + 1
    assert done.restored(EMBEDDINGS).source_file == _path(written).name
    assert done.restored(EMBEDDINGS).digest_matches is None
    assert done.result.backup_info is not None
    assert done.result.backup_info.backup_date.isoformat() == "2024-01-02T03:04:05+00:00"


@pytest.mark.parametrize("on_conflict", ["skip", "replace"])
def test_lost_and_changed_rows_come_back(
    filled: Database, written: Path, restore: RestoreMaker, on_conflict: str
) -> None:
    before = rows_of(filled)
    filled.run("DELETE FROM langchain_pg_embedding WHERE id < 'd4'")
    if on_conflict == "replace":
        filled.run("UPDATE langchain_pg_embedding SET cmetadata = NULL, embedding = '[1,1,1]'")

    done = restore.succeeds(filled, on_conflict=on_conflict)

    assert rows_of(filled) == before
    assert done.restored(EMBEDDINGS).rows_restored == (5 if on_conflict == "skip" else 10)


def test_nothing_is_null_or_the_empty_string_where_null_may_not_be(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("UPDATE langchain_pg_embedding SET document = ''")
    _manifest(written).unlink()
    older_backup(filled, restore.root)

    restore.succeeds(filled, truncate_before_restore=True)
    assert filled.ask("SELECT DISTINCT document FROM langchain_pg_embedding") == [(None,)]

    filled.run(
        "TRUNCATE langchain_pg_embedding;"
        "ALTER TABLE langchain_pg_embedding ALTER document SET NOT NULL"
    )
    restore.succeeds(filled, truncate_before_restore=True)
    assert filled.ask("SELECT DISTINCT document FROM langchain_pg_embedding") == [("",)]


def test_a_collection_of_an_older_set(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    restore.succeeds(filled, collections=("two",))
    assert (count(filled, COLLECTIONS), count(filled)) == (1, 0)
    restore.succeeds(filled, collections=("one",))
    assert (count(filled, COLLECTIONS), count(filled)) == (2, len(_METADATA) + 1)


def test_json_that_only_the_target_shows_to_be_json_is_checked_before_a_lock(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run(
        "ALTER TABLE langchain_pg_embedding ALTER document TYPE json USING to_json(document)"
    )

    restore.fails(filled, "INTEGRITY_ERROR", "line 2: column document has no JSON")


def test_without_the_tables_the_message_says_how_to_get_them(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("DROP TABLE langchain_pg_embedding")

    restore.fails(
        filled, "TABLE_NOT_FOUND", "langchain_pg_embedding does not exist", "Create the table first"
    )


def test_the_connections_own_search_path_leads_to_the_tables(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run(
        "CREATE SCHEMA tenant;"
        "CREATE TABLE tenant.langchain_pg_collection (LIKE langchain_pg_collection);"
        "CREATE TABLE tenant.langchain_pg_embedding (LIKE langchain_pg_embedding)"
    )
    filled.run(f"ALTER DATABASE {filled.name} SET search_path = tenant, public")

    restore.succeeds(filled)

    assert count(filled, "tenant.langchain_pg_embedding") == len(_METADATA) + 1
    filled.run(f"ALTER DATABASE {filled.name} RESET search_path")
