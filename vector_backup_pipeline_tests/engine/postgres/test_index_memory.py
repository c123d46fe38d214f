"""Before an HNSW index is built on disk for hours, a person hears of it, with numbers."""

from __future__ import annotations

import re

import pytest

from vector_backup_pipeline.engine.postgres.index_memory import hnsw_memory_notice
from vector_backup_pipeline.engine.table_definition import Index
from vector_backup_pipeline_tests.fix_postgres import Database

ROWS = 2000
DOCS = """
    CREATE TABLE "the docs(" (id int PRIMARY KEY, "a v" vector(64), whole vector);
    INSERT INTO "the docs("
    SELECT i, v, v
      FROM generate_series(1, 2000) i,
   LATERAL (SELECT array_agg(random() + (i + d) * 0)::vector v FROM generate_series(1, 64) d) made;
"""
PLAIN = """CREATE INDEX docs_v ON public."the docs(" USING hnsw ("a v" public.vector_l2_ops)"""


def notice(
    database: Database, definition: str, memory: str, rows: int = ROWS, table: str = "the docs("
) -> str | None:
    index = Index(
        name="docs_v", definition=definition, access_method="hnsw", unique=False, valid=True
    )
    with database.session() as connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path = ''")
        cursor.execute("SELECT set_config('maintenance_work_mem', %s, true)", [memory])
        told = hnsw_memory_notice(cursor, "public", table, index, rows=rows)
        cursor.execute("SELECT 1")  # The restore's transaction goes on.
        return told


def advice(told: str | None) -> str:
    assert told is not None
    found = re.search(r"Set maintenance_work_mem to at least (\d+[MG]B)\.$", told)
    assert found is not None, told
    return found.group(1)


def built_with_a_megabyte(database: Database, index: str) -> tuple[str, int]:
    """An index's definition, and the tuples that pgvector itself says had room."""
    with database.session() as connection, connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1MB'; SET max_parallel_maintenance_workers = 0")
        cursor.execute(f'CREATE INDEX docs_v ON "the docs(" USING hnsw {index}')
        (told,) = [re.search(r"after (\d+) tuples", line) for line in connection.notices]
        assert told is not None
        cursor.execute("SET search_path = ''; SELECT pg_get_indexdef('public.docs_v'::regclass)")
        ((definition,),) = cursor.fetchall()
    return definition, int(told.group(1))


@pytest.fixture
def docs(database: Database) -> Database:
    database.run(DOCS)
    return database


def test_an_index_that_fits_is_not_worth_a_word(docs: Database) -> None:
    assert notice(docs, PLAIN, "64MB") is None


def test_the_notice_has_the_numbers_and_the_advice(docs: Database) -> None:
    told = notice(docs, PLAIN, "2MB")

    assert told is not None
    assert "HNSW index docs_v of the docs( needs about " in told
    assert "2000 rows, but maintenance_work_mem is 2.0 MB" in told
    assert notice(docs, PLAIN, advice(told)) is None


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ('"a v" vector_l2_ops', ""),
        ('"a v" vector_l2_ops', "WITH (m = 32, ef_construction = 64)"),
        ("(whole::halfvec(64)) halfvec_cosine_ops", ""),
        ("(binary_quantize(whole)::bit(64)) bit_hamming_ops", ""),
        ('"a v" vector_l2_ops', "WHERE id % 4 > 0 OR id < 0"),
    ],
)
def test_the_estimate_is_what_pgvector_takes(docs: Database, key: str, options: str) -> None:
    definition, tuples = built_with_a_megabyte(docs, f"({key}) {options}")
    indexed = 1500 if "WHERE" in options else ROWS
    needed_in_fact = indexed / tuples  # In megabytes.

    estimated = re.search(r"about (\S+) MB", notice(docs, definition, "1MB") or "")
    assert estimated is not None
    assert float(estimated.group(1)) == pytest.approx(needed_in_fact, rel=0.2)


def test_an_empty_frame_of_partitions_needs_nothing(database: Database) -> None:
    database.run("""
        CREATE TABLE parts (id int, v vector(64)) PARTITION BY LIST (id);
        CREATE TABLE part PARTITION OF parts DEFAULT;
        INSERT INTO parts SELECT 1, array_agg(random())::vector FROM generate_series(1, 64);
    """)
    key = "USING hnsw (v public.vector_l2_ops)"

    frame = f"CREATE INDEX docs_v ON ONLY public.parts {key}"
    assert notice(database, frame, "1MB", rows=10**9, table="parts") is None
    # The caller knows how many rows there are; but it is no more than there are.
    part = f"CREATE INDEX docs_v ON public.part {key}"
    assert notice(database, part, "1MB", rows=10**9, table="part") is None


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE INDEX docs_v ON public.docs USING hnsw",
        'CREATE INDEX docs_v ON public."the docs(" USING hnsw (nowhere public.vector_l2_ops)',
        'CREATE INDEX docs_v ON public."the docs(" USING hnsw ((1 / 0) public.vector_l2_ops)',
    ],
)
def test_what_can_not_be_estimated_is_no_reason_to_fail(docs: Database, definition: str) -> None:
    assert notice(docs, definition, "1MB") is None
