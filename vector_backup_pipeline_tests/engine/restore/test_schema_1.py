"""A set whose manifest has schema version 1 is verified, restored and pruned.

`schema_1_set` is a real one, of PostgreSQL 18 with the tables of `schema.sql`; `looked_up` was
locked meanwhile.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.manifest import Manifest, read_manifest
from vector_backup_pipeline_tests.fix_definitions import Databases, dump
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of
from vector_backup_pipeline_tests.fix_sets import sealed
from vector_backup_pipeline_tests.fix_verify import verify_root

SET = Path(__file__).parent / "schema_1_set"
STAMP = "20261128_175726"
MANIFEST = f"vector_backup_{STAMP}.json"
CREATED = (
    *("langchain_pg_collection", "langchain_pg_embedding", "notes", "parts", "base"),
    "typed",
)


@pytest.fixture
def restore(tmp_path: Path) -> RestoreMaker:
    shutil.copytree(SET / "vector_bak", tmp_path / "vector_bak")
    return RestoreMaker(tmp_path)


@pytest.fixture
def source(databases: Databases) -> Database:
    """The database that the set was made of."""
    database = databases(18)
    database.run(
        "DO $$ BEGIN CREATE ROLE v1_reader;"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$; CREATE EXTENSION vector"
    )
    database.run((SET / "schema.sql").read_text())
    return database


@pytest.fixture
def target(databases: Databases) -> Database:
    return databases(18)


def test_it_is_restored_into_an_empty_database(
    source: Database, target: Database, restore: RestoreMaker
) -> None:
    done = restore.succeeds(target, tables=CREATED)

    # Neither version makes these tables, or what is special about a typed table.
    source.run(
        "DROP TABLE child, spans, guarded, looked_up; DROP TYPE span; ALTER TABLE typed NOT OF"
    )
    assert dump(target, target.server) == dump(source, source.server)
    assert rows_of(target) == rows_of(source)
    assert done.result.not_recreated == {
        "notes": ["grants {postgres=arwdDxtm/postgres,v1_reader=r/postgres}"],
        "typed": ["type public.pair of the typed table"],
    }


_NOT_CREATED = {
    "child": "cannot be created from this backup: it would lack inheritance from public.base",
    "guarded": "it would lack policy looks of public.guarded, which the backup could not",
    "spans": "lacks objects that the backup's tables use: type public.span",
}


def test_a_table_that_cannot_be_created_takes_its_rows_if_it_exists(
    source: Database, target: Database, restore: RestoreMaker
) -> None:
    rows = rows_of(source)
    for table, message in _NOT_CREATED.items():
        restore.fails(target, "DATABASE_ERROR", message, tables=(table,))

        source.run(f"TRUNCATE {table}")
        restore.succeeds(source, tables=(table,))
        assert rows_of(source) == rows


def test_it_is_verified(restore: RestoreMaker) -> None:
    assert verify_root(restore.root, timestamp=STAMP).errors == []


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SET / "vector_bak" / MANIFEST).read_bytes())
    return document


def _manifest(**changes: Any) -> Manifest:
    return read_manifest(sealed(_document() | changes), MANIFEST)


def _changed_tables(name: str, **changes: Any) -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = _document()["tables"]
    for table in tables:
        if table["name"] == name:
            table["definition"] |= changes
    return tables


def test_what_the_first_version_recorded_in_words_only_is_understood() -> None:
    words = [
        "policy a, which could not be read without waiting",
        "partition public.parts_eu: owner postgres",
        "trigger policy of, which could not be read",
    ]
    manifest = _manifest(tables=_changed_tables("parts", not_recreated=words, unread_policies=[]))
    (parts,) = (definition for definition in manifest.definitions if definition.name == "parts")

    assert [(str(omission), omission.prevents_creation) for omission in parts.omissions] == [
        ("policy a, which the backup could not read", True),
        ("trigger policy of, which could not be read", False),
    ]
