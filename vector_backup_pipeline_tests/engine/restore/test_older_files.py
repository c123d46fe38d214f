"""The older system's files, written as it wrote them, into LangChain's tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of

STAMP = "20240102_030405"

# What Python's repr and JSON spell differently, and what one might take for something else.
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


def older_backup(database: Database, root: Path, stamp: str = STAMP) -> Path:
    """What the older service did: fetch rows with the driver, and hand each to `csv.writer`."""
    directory = root / "vector_bak"
    directory.mkdir(exist_ok=True)
    for table in (COLLECTIONS, EMBEDDINGS):
        with database.session() as session, session.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
            assert cursor.description is not None
            with (directory / f"{table}_{stamp}.csv").open(
                "w", newline="", encoding="utf-8"
            ) as file:
                writer = csv.writer(file)
                writer.writerow([column.name for column in cursor.description])
                writer.writerows(cursor.fetchall())
    return directory


@pytest.fixture
def written(filled: Database, backup: BackupMaker) -> Path:
    """The directory of an older backup of `filled`."""
    return older_backup(filled, backup.root)


def _path(directory: Path, table: str = EMBEDDINGS) -> Path:
    return directory / f"{table}_{STAMP}.csv"


@pytest.mark.parametrize("timestamp", ["latest", STAMP])
def test_every_row_comes_back_and_json_is_json(
    filled: Database, written: Path, restore: RestoreMaker, timestamp: str
) -> None:
    before = rows_of(filled)
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
    older_backup(filled, restore.root)

    restore.succeeds(filled, truncate_before_restore=True)
    assert filled.ask("SELECT DISTINCT document FROM langchain_pg_embedding") == [(None,)]

    filled.run(
        "TRUNCATE langchain_pg_embedding;"
        "ALTER TABLE langchain_pg_embedding ALTER document SET NOT NULL"
    )
    restore.succeeds(filled, truncate_before_restore=True)
    assert filled.ask("SELECT DISTINCT document FROM langchain_pg_embedding") == [("",)]


def test_rows_go_beside_others_by_their_number(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("UPDATE langchain_pg_embedding SET id = 'other ' || id")

    done = restore.succeeds(filled, tables=(EMBEDDINGS,))

    assert count(filled) == 2 * (len(_METADATA) + 1)
    assert done.restored(EMBEDDINGS).digest_matches is None


def test_a_collection_of_an_older_set(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    restore.succeeds(filled, collections=("two",))
    assert (count(filled, COLLECTIONS), count(filled)) == (1, 0)
    restore.succeeds(filled, collections=("one",))
    assert (count(filled, COLLECTIONS), count(filled)) == (2, len(_METADATA) + 1)


_BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no JSON": (
        lambda data: data.replace(b"'createdat': None", b"'createdat': datetime"),
        "line 2: column cmetadata holds no JSON",
    ),
    "a call": (
        lambda data: data.replace(b"[1, 'two', None]", b"__import__('os').getpid()"),
        "column cmetadata holds no JSON",
    ),
    "a field too many": (
        lambda data: data.replace(b"d0,", b"d0,,", 1),
        "line 2: 6 values where the header has 5 columns",
    ),
    "cut": (lambda data: data[:-9], "the file ends"),
    "no UTF-8": (lambda data: data.replace(b"plain 2", b"plain \xff"), "is not UTF-8"),
}


@pytest.mark.parametrize("fault", list(_BROKEN))
def test_one_unreadable_row_is_named_and_nothing_is_restored(
    filled: Database, written: Path, restore: RestoreMaker, fault: str
) -> None:
    change, words = _BROKEN[fault]
    path = _path(written)
    data = path.read_bytes()
    assert change(data) != data
    path.write_bytes(change(data))

    restore.fails(
        filled, "INTEGRITY_ERROR", str(path), "1 row(s)", words, truncate_before_restore=True
    )


def test_every_unreadable_row_is_named(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    path = _path(written)
    path.write_bytes(path.read_bytes().replace(b"None", b"Nothing", 1).replace(b"[]\r\n", b"[\r\n"))

    restore.fails(filled, "INTEGRITY_ERROR", "2 row(s)", "line 2: ", "line 11: ")


def test_a_value_that_the_table_refuses_restores_nothing(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    path = _path(written)
    path.write_bytes(path.read_bytes().replace(b'"[3,0.1,-1e-07]"', b'"[3,0.1]"'))

    restore.fails(
        filled, "DATABASE_ERROR", "expected 3 dimensions, not 2", truncate_before_restore=True
    )


def test_without_the_tables_the_message_says_how_to_get_them(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("DROP TABLE langchain_pg_embedding")

    restore.fails(
        filled, "TABLE_NOT_FOUND", "langchain_pg_embedding is not there", "Create the table first"
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


def test_an_older_file_into_a_table_of_another_name(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    filled.run("CREATE SCHEMA aside; CREATE TABLE aside.e (LIKE langchain_pg_embedding)")

    restore.succeeds(filled, tables=(EMBEDDINGS,), rename={EMBEDDINGS: "aside.e"})

    assert count(filled, "aside.e") == len(_METADATA) + 1
    assert filled.ask("SELECT * FROM aside.e EXCEPT SELECT * FROM langchain_pg_embedding") == []


def test_half_a_pair_is_restored_by_name_alone(
    filled: Database, written: Path, restore: RestoreMaker
) -> None:
    _path(written, COLLECTIONS).unlink()

    restore.fails(filled, "INTEGRITY_ERROR", "one is missing", timestamp=STAMP)
    restore.succeeds(filled, timestamp=STAMP, tables=(EMBEDDINGS,), on_conflict="skip")


def test_a_newer_set_with_a_manifest_is_the_latest(
    filled: Database, written: Path, backup: BackupMaker, restore: RestoreMaker
) -> None:
    made = backup(filled.url)

    done = restore.succeeds(filled, truncate_before_restore=True)

    assert done.result.backup_info is not None
    assert done.result.backup_info.timestamp == made.stamp
