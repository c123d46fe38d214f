"""A restored database answers LangChain's searches as before."""

import json
from contextlib import closing

import psycopg
import pytest

from vector_backup_pipeline.demo_corpus import (
    COLLECTIONS,
    DIMENSIONS,
    EMBEDDINGS,
    fill_langchain_tables,
)
from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, drop_database, new_database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker

pytest.importorskip("langchain_postgres")

QUESTIONS = ["how do I run tasks concurrently", "parse a json document", "write to a log file"]

Answers = list[list[tuple[str, str, str, float]]]


def similarity_search(database: Database) -> Answers:
    """What LangChain finds: each document with its metadata and score, for each question."""
    import sqlalchemy
    from langchain_postgres import PGVector

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database.url),
        poolclass=sqlalchemy.pool.NullPool,
    )
    try:
        return [
            [
                (str(d.id), d.page_content, json.dumps(d.metadata, sort_keys=True), score)
                for d, score in store.similarity_search_with_score(question, k=10)
            ]
            for collection in COLLECTIONS
            for store in [
                PGVector(
                    embeddings=EMBEDDINGS,
                    embedding_length=DIMENSIONS,
                    connection=engine,
                    collection_name=collection,
                )
            ]
            for question in QUESTIONS
        ]
    finally:
        engine.dispose()


@pytest.fixture
def corpus(database: Database) -> Database:
    """LangChain's tables as LangChain fills them, with an HNSW index over the embeddings."""
    fill_langchain_tables(database.url, documents=120)
    database.run(
        "CREATE INDEX by_distance ON langchain_pg_embedding"
        " USING hnsw (embedding vector_cosine_ops)"
    )
    return database


def test_langchain_finds_the_same_documents_with_the_same_scores_after_the_loss(
    corpus: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    before = similarity_search(corpus)
    assert backup(corpus.url, truncate_vector_tables=True).error is None
    assert not any(similarity_search(corpus))

    done = restore(corpus.url, tables=("langchain_pg_embedding",), probes=3)

    assert done.error is None
    assert similarity_search(corpus) == before
    (recall,) = done.result.recall_at_10
    assert recall.index == "by_distance"
    assert recall.recall is not None and recall.recall > 0.9


def test_a_dropped_database_comes_back_on_an_older_server(
    server16: EmbeddedServer, corpus: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    before = similarity_search(corpus)
    made = backup(corpus.url)
    drop_database(corpus.server, corpus.name)
    with new_database(server16, "risen") as risen:
        done = restore(risen.url, timestamp=made.stamp)

        assert done.error is None
        assert similarity_search(risen) == before
        with closing(psycopg.connect(risen.url)) as connection:
            plan = connection.execute(
                "SELECT indexdef FROM pg_indexes WHERE indexname = 'by_distance'"
            ).fetchone()
        assert plan is not None and "hnsw" in plan[0]
