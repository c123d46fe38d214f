"""The demo's documents: LangChain's own tables, the same rows each time, a search that finds."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from vector_backup_pipeline.demo_corpus import (
    COLLECTIONS,
    DIMENSIONS,
    DeterministicEmbeddings,
    fill_langchain_tables,
)
from vector_backup_pipeline.embedded import (
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    start_embedded_server,
)
from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams, MissingExtra

FIRST_OF_PGVECTOR = [-0.004397531460222521, -0.039577783142002686, 0.0005277037752267025]
ALL_ROWS = """
    SELECT id, name, embedding::text, document, e.cmetadata::text
    FROM langchain_pg_embedding AS e JOIN langchain_pg_collection AS c ON e.collection_id = c.uuid
    ORDER BY id
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    # Not tmp_path: each pytest of this user closes its parent to others, the server's user too.
    directory = Path(tempfile.mkdtemp(prefix="vbp-"))
    with start_embedded_server(directory, settings=THROWAWAY_SETTINGS) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture
def database(server: EmbeddedServer) -> Iterator[str]:
    yield server.create_database("corpus")
    server.drop_database("corpus")


def fetch(connection_string: str, query: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(connection_string)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_hundreds_of_documents_are_spread_over_the_collections(database: str) -> None:
    filled = fill_langchain_tables(database)
    assert filled.documents == 400
    counts = fetch(
        database,
        "SELECT name, count(*) FROM langchain_pg_embedding AS e"
        " JOIN langchain_pg_collection AS c ON e.collection_id = c.uuid GROUP BY name",
    )
    assert dict(counts) == dict(filled.collections) == dict.fromkeys(COLLECTIONS, 100)
    shapes = fetch(database, "SELECT DISTINCT vector_dims(embedding) FROM langchain_pg_embedding")
    assert shapes == [(DIMENSIONS,)]
    assert fetch(
        database,
        "SELECT cmetadata ->> 'kind' FROM langchain_pg_embedding"
        " WHERE id = 'python_concurrency:logging' AND document LIKE 'logging%'",
    ) == [("module",)]


def test_filling_again_leaves_the_same_rows_also_after_a_truncate(database: str) -> None:
    fill_langchain_tables(database, documents=40)
    rows = fetch(database, ALL_ROWS)
    assert len(rows) == 40
    fill_langchain_tables(database, documents=40)
    assert fetch(database, ALL_ROWS) == rows
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE langchain_pg_embedding")
        connection.commit()
    fill_langchain_tables(database, documents=40)
    assert fetch(database, ALL_ROWS) == rows


def test_langchain_finds_the_document_that_the_words_are_about(database: str) -> None:
    import sqlalchemy
    from langchain_postgres import PGVector

    fill_langchain_tables(database)
    engine = sqlalchemy.create_engine(database.replace("postgresql:", "postgresql+psycopg:", 1))
    store = PGVector(DeterministicEmbeddings(), connection=engine, collection_name="python_text")
    found = store.similarity_search("wrap a paragraph of text into lines", k=2)
    engine.dispose()
    assert "textwrap.wrap" in [document.metadata["source"] for document in found]


def test_similar_texts_are_near_and_strangers_are_not() -> None:
    embeddings = DeterministicEmbeddings()
    backup, similar, stranger = embeddings.embed_documents(
        [
            "Create a backup of the database before the risky step",
            "A database backup, created before each step that is risky",
            "Wrap a single paragraph of text, and return its lines",
        ]
    )
    assert cosine(backup, backup) == pytest.approx(1)
    assert cosine(backup, similar) > 0.5
    assert abs(cosine(backup, stranger)) < 0.15


def test_the_vector_of_a_text_never_changes() -> None:
    vector = DeterministicEmbeddings().embed_query("pgvector")
    assert vector[:3] == FIRST_OF_PGVECTOR
    assert DeterministicEmbeddings(3).embed_query("…") == [0.0, 0.0, 0.0]


def test_a_connection_string_of_keys_and_values_works_too(
    server: EmbeddedServer, database: str
) -> None:
    keys_and_values = f"host={server.socket_directory} port={server.port} user=postgres"
    assert fill_langchain_tables(f"{keys_and_values} dbname=corpus", documents=4).documents == 4


def test_bad_luck_is_told_without_the_password() -> None:
    with pytest.raises(InvalidParams) as malformed:
        fill_langchain_tables("host=somewhere password='s3cret")
    with pytest.raises(DatabaseError) as unreachable:
        fill_langchain_tables("postgresql://postgres:s3cret@127.0.0.1:1/none")
    assert "s3cret" not in f"{malformed.value} {unreachable.value}"
    assert malformed.value.__suppress_context__


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_postgres", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vector-backup-pipeline\[demo\]'"):
        fill_langchain_tables("postgresql://127.0.0.1:1/none")
