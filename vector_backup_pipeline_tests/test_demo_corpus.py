"""The demo's documents: LangChain's own tables, with the same rows each time."""

import importlib.util
from pathlib import Path

import pytest

from vector_backup_pipeline.demo_corpus import (
    COLLECTIONS,
    DIMENSIONS,
    fill_langchain_tables,
)
from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_terminal import Terminal


def test_the_documents_are_spread_over_the_collections(database: Database) -> None:
    assert fill_langchain_tables(database.url) == 400
    counts = database.ask(
        "SELECT name, count(*), min(vector_dims(embedding)) FROM langchain_pg_embedding AS e"
        " JOIN langchain_pg_collection AS c ON e.collection_id = c.uuid GROUP BY name"
    )
    assert sorted(counts) == sorted((name, 100, DIMENSIONS) for name in COLLECTIONS)


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(DatabaseError) as unreachable:
        fill_langchain_tables("postgresql://postgres:s3cret@127.0.0.1:1/none")
    assert "s3cret" not in str(unreachable.value)


def test_without_the_extra_the_error_says_what_to_install(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "langchain_postgres" else find(name),
    )
    called = terminal("demo", "--directory", str(tmp_path))
    assert called.code == 2
    assert "not installed: langchain_postgres" in called.err
    assert "pip install 'vector-backup-pipeline[demo]'" in called.err
