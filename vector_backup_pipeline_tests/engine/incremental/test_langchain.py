"""LangChain's own tables, changed by LangChain, in backups that build on one another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
import pytest

from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, new_database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of

pytest.importorskip("langchain_postgres")

import sqlalchemy
from langchain_core.documents import Document
from langchain_postgres import PGEngine, PGVector, PGVectorStore

from vector_backup_pipeline.demo_corpus import DIMENSIONS, EMBEDDINGS

# PGVectorStore's keys are UUIDs.
_IDS = [f"00000000-0000-0000-0000-{number:012}" for number in range(40)]


class Store(Protocol):
    def add_documents(self, documents: list[Document], *, ids: list[str]) -> Any: ...

    def delete(self, ids: list[str]) -> Any: ...


@contextmanager
def _collections(database: Database) -> Iterator[Store]:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database.url),
        poolclass=sqlalchemy.pool.NullPool,
    )
    # langchain_postgres keeps the dimensions of its first table in this process.
    yield PGVector(
        EMBEDDINGS, connection=engine, collection_name="notes", embedding_length=DIMENSIONS
    )
    engine.dispose()


@contextmanager
def _table(database: Database) -> Iterator[Store]:
    engine = PGEngine.from_connection_string(
        database.url.replace("postgresql:", "postgresql+psycopg:"),
        poolclass=sqlalchemy.pool.NullPool,
    )
    engine.init_vectorstore_table("notes", DIMENSIONS)
    yield PGVectorStore.create_sync(engine, EMBEDDINGS, "notes")


def _documents(ids: list[str], text: str) -> list[Document]:
    return [Document(f"{text} {id_}", metadata={"text": text}) for id_ in ids]


@pytest.mark.parametrize(
    ("layout", "tables", "embeddings"),
    [(_collections, LANGCHAIN, "langchain_pg_embedding"), (_table, ("notes",), "notes")],
)
def test_documents_that_are_added_replaced_and_deleted(
    layout: Any,
    tables: tuple[str, ...],
    embeddings: str,
    database: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
) -> None:
    def counts() -> tuple[object, ...]:
        made = backup(database.url, tables=tables, truncate_tables=(), mode="auto")
        assert made.error is None, made.error
        entry = made.result.tables_backed_up[embeddings].model_dump()
        return entry["mode"], entry["rows_exported"], entry["rows_removed"]

    with layout(database) as store:
        store.add_documents(_documents(_IDS[:30], "first"), ids=_IDS[:30])
        assert counts() == ("full", 30, None)
        store.add_documents(_documents(_IDS[30:33], "second"), ids=_IDS[30:33])
        assert counts() == ("incremental", 3, 0)
        store.delete(_IDS[:2])
        store.add_documents(_documents(_IDS[2:4], "replaced"), ids=_IDS[2:4])
        assert counts() == ("incremental", 2, 2)
        store.add_documents(_documents(_IDS[:1], "again"), ids=_IDS[:1])
        assert counts() == ("incremental", 1, 0)
        assert counts() == ("incremental", 0, 0)

    with new_database(database.server, "restored_notes") as restored:
        restore.succeeds(restored, source_database=database.name)
        assert rows_of(restored) == rows_of(database)
