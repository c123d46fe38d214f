"""Recall of vector indexes: searches by index compared with exact searches."""

# ruff: noqa: S608 - the names in these statements are the tests' own

import time
from contextlib import closing

import pytest

from vector_backup_pipeline.engine.postgres.connection import connect
from vector_backup_pipeline.engine.postgres.probes import measure_recall
from vector_backup_pipeline.engine.results import Recall
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

ROWS = 80
DOCS = """
    CREATE TABLE docs (
        id int PRIMARY KEY, kind text, v vector(8), loose vector, half halfvec(8),
        sparse sparsevec(8), bits bit(64)
    );
    SELECT setseed(0.5);
    INSERT INTO docs
    SELECT i, 'kind ' || i % 2, v, v, v::halfvec(8), v::sparsevec(8), bits
      FROM generate_series(1, 200) i,
   LATERAL (SELECT array_agg(random() - 0.5 + (i + d) * 0)::vector v
              FROM generate_series(1, 8) d) a,
   LATERAL (SELECT string_agg((random() + (i + d) * 0 > 0.5)::int::text, '')::bit(64) bits
              FROM generate_series(1, 64) d) b;
"""


def measure(
    database: Database,
    table: str = "docs",
    *,
    schema: str = "public",
    probes: int = 5,
    seconds: float = 60.0,
    url: str | None = None,
) -> list[Recall]:
    settings = settings_for(url or database.url)
    with closing(connect(settings)) as connection:
        return measure_recall(connection, (schema, table), "the docs", probes, seconds)


def by_index(database: Database, table: str = "docs", probes: int = 5) -> dict[str, Recall]:
    measured = measure(database, table, probes=probes)
    return {recall.index: recall for recall in measured if recall.index}


@pytest.fixture
def docs(database: Database) -> Database:
    database.run(DOCS)
    return database


def test_an_index_is_asked_and_its_answers_are_compared(any_database: Database) -> None:
    any_database.run(DOCS + "CREATE INDEX docs_v ON docs USING hnsw (v vector_cosine_ops)")

    measured = by_index(any_database)["docs_v"]

    assert measured.model_dump(exclude={"seconds"}) == {
        "table": "the docs",
        "column": "v",
        "index": "docs_v",
        "metric": "<=>",
        "dimensions": [8],
        "probes": 5,
        "recall": 1.0,
        "note": None,
    }


_KINDS = {
    "v vector_l2_ops": ("v", "<->", 8),
    "v vector_ip_ops": ("v", "<#>", 8),
    "v vector_l1_ops": ("v", "<+>", 8),
    "half halfvec_cosine_ops": ("half", "<=>", 8),
    "sparse sparsevec_l2_ops": ("sparse", "<->", 8),
    "bits bit_hamming_ops": ("bits", "<~>", 64),
    "bits bit_jaccard_ops": ("bits", "<%>", 64),
    "(loose::vector(8)) vector_cosine_ops": ("loose", "<=>", 8),
    "(v::halfvec(8)) halfvec_l2_ops": ("v", "<->", 8),
    "(subvector(v, 1, 4)::vector(4)) vector_l2_ops": ("v", "<->", 4),
    "(binary_quantize(v)::bit(8)) bit_hamming_ops": ("v", "<~>", 8),
    "v vector_cosine_ops) WHERE (kind = 'kind 1' OR kind LIKE '%{0}%s'": ("v", "<=>", 8),
}


def test_every_kind_of_index_is_measured_by_its_own_metric(docs: Database) -> None:
    for number, key in enumerate(_KINDS):
        docs.run(f"CREATE INDEX docs_{number} ON docs USING hnsw ({key})")

    measured = by_index(docs)

    for number, (key, expected) in enumerate(_KINDS.items()):
        recall = measured[f"docs_{number}"]
        assert (recall.column, recall.metric, *(recall.dimensions or ())) == expected, key
        assert (recall.probes, recall.note) == (5, None), key
        assert (recall.recall or 0) > 0.5, key


def test_what_an_index_misses_is_what_another_reckoning_says(docs: Database) -> None:
    docs.run(
        f"DELETE FROM docs WHERE id > {ROWS};"
        "CREATE INDEX docs_v ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 10)"
    )
    nearest = (
        "SET enable_seqscan = {0}; SET enable_sort = {0}; SET enable_indexscan = {1};"
        " SELECT p.id, ARRAY(SELECT d.id FROM docs d ORDER BY d.v <-> p.v LIMIT 10) FROM docs p"
    )
    approximate = dict(docs.ask(nearest.format("off", "on")))
    true = dict(docs.ask(nearest.format("on", "off")))
    shares = [len(set(approximate[id_]) & set(true[id_])) / 10 for id_ in true]

    measured = by_index(docs, probes=ROWS)["docs_v"]

    assert measured.probes == ROWS
    assert measured.recall == pytest.approx(sum(shares) / ROWS, abs=0.0001)
    assert 0.1 < sum(shares) / ROWS < 0.9


def test_each_of_several_indexes_has_a_result_of_its_own(docs: Database) -> None:
    docs.run("""
        CREATE INDEX docs_cosine ON docs USING hnsw (v vector_cosine_ops);
        CREATE INDEX docs_l2 ON docs USING hnsw (v vector_l2_ops);
        CREATE INDEX docs_l2_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 2);
        CREATE INDEX docs_words ON docs (kind);
    """)

    measured = by_index(docs)

    assert set(measured) == {"docs_cosine", "docs_l2", "docs_l2_ivf"}
    assert measured["docs_cosine"].recall == 1.0
    # The planner uses one of two equivalent indexes; the other is not reported as measured.
    hnsw, ivfflat = measured["docs_l2"], measured["docs_l2_ivf"]
    assert {hnsw.recall is None, ivfflat.recall is None} == {True, False}
    assert (hnsw.note or ivfflat.note or "").startswith("the planner does not use it but docs_l2")


_PARTS = """
    CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (1) TO (100);
    CREATE TABLE part2 PARTITION OF parts DEFAULT PARTITION BY RANGE (id);
    CREATE TABLE part2_1 PARTITION OF part2 DEFAULT;
    INSERT INTO parts SELECT id, v FROM docs;
    CREATE INDEX parts_v ON parts USING hnsw (v vector_cosine_ops);
"""


@pytest.mark.parametrize(
    ("table", "probes", "statements"),
    [
        pytest.param(
            "mixed",
            5,
            """CREATE TABLE mixed (id int PRIMARY KEY, v vector);
            INSERT INTO mixed SELECT i, ARRAY[i, 1, -i]::vector FROM generate_series(1, 30) i;
            INSERT INTO mixed VALUES (31, '[1,2]'), (32, '[1,2,3,4]'), (33, NULL);
            CREATE INDEX mixed_v ON mixed USING hnsw ((v::vector(3)) vector_cosine_ops)
             WHERE vector_dims(v) = 3""",
            id="one of several dimensions",
        ),
        pytest.param(
            "gaps",
            3,
            """CREATE TABLE gaps (id int PRIMARY KEY, v vector(2));
            INSERT INTO gaps SELECT i, '[0,0]' FROM generate_series(1, 60) i;
            INSERT INTO gaps SELECT i, NULL FROM generate_series(301, 400) i;
            INSERT INTO gaps SELECT i, ARRAY[i, 1]::vector FROM generate_series(401, 403) i;
            CREATE INDEX gaps_v ON gaps USING hnsw (v vector_cosine_ops)""",
            id="null and zero vectors are neither probes nor neighbours",
        ),
        pytest.param(
            "same",
            5,
            """CREATE TABLE same (a int, b text, v vector(2), PRIMARY KEY (b, a));
            INSERT INTO same SELECT i % 7, 'b' || i, ARRAY[i % 2, 1]::vector
              FROM generate_series(1, 36) i;
            CREATE INDEX same_v ON same USING hnsw (v vector_l2_ops)""",
            id="equally near rows are distinguished by their key",
        ),
        pytest.param(
            "parts",
            5,
            "CREATE TABLE parts (id int PRIMARY KEY, v vector(8)) PARTITION BY RANGE (id);"
            + _PARTS,
            id="all partitions",
        ),
        pytest.param(
            "parts",
            5,
            "CREATE TABLE parts (id int, v vector(8)) PARTITION BY RANGE (id);" + _PARTS,
            id="all partitions, without a key",
        ),
        pytest.param(
            "docs",
            5,
            """CREATE INDEX docs_v ON docs USING hnsw (v vector_cosine_ops);
            CREATE TABLE child () INHERITS (docs); INSERT INTO child SELECT * FROM docs""",
            id="no inheritance children",
        ),
    ],
)
def test_the_rows_that_an_index_has_are_searched(
    docs: Database, table: str, probes: int, statements: str
) -> None:
    docs.run(statements)

    (measured,) = [recall for recall in measure(docs, table) if recall.index]

    assert (measured.index, measured.probes) == (f"{table}_v", probes)
    assert (measured.recall, measured.note) == (1.0, None)


_NO_VECTOR = "there is no vector to search for"
_EMPTY = "CREATE TABLE empty (id int, v vector(2)); INSERT INTO empty "
_EMPTY_INDEX = "; CREATE INDEX ON empty USING hnsw (v vector_cosine_ops)"


@pytest.mark.parametrize(
    ("table", "statements", "note"),
    [
        ("empty", f"{_EMPTY} SELECT 1, NULL::vector {_EMPTY_INDEX}", _NO_VECTOR),
        ("empty", f"{_EMPTY} SELECT 1, '[0,0]'::vector LIMIT 0 {_EMPTY_INDEX}", _NO_VECTOR),
        # Their distances overflow.
        (
            "empty",
            f"{_EMPTY} VALUES (1, '[1e30,1e30]'), (2, '[1e-30,1e-30]') {_EMPTY_INDEX}",
            _NO_VECTOR,
        ),
        (
            "parts",
            """CREATE TABLE parts (id int, v vector(8)) PARTITION BY RANGE (id);
            CREATE TABLE part1 PARTITION OF parts DEFAULT;
            INSERT INTO parts SELECT id, v FROM docs;
            CREATE INDEX parts_v ON ONLY parts USING hnsw (v vector_cosine_ops)""",
            "the index is not valid",
        ),
    ],
    ids=["null", "no rows", "overflow", "a partition lacks it"],
)
def test_an_index_that_cannot_be_measured_gets_a_note(
    docs: Database, table: str, statements: str, note: str
) -> None:
    docs.run(statements)

    (measured,) = measure(docs, table)

    assert (measured.recall, measured.probes, measured.note) == (None, 0, note)


def test_pgvector_may_lie_in_any_schema_and_names_may_be_odd(docs: Database) -> None:
    docs.run("""
        CREATE SCHEMA "the ext%s";
        ALTER EXTENSION vector SET SCHEMA "the ext%s";
        CREATE SCHEMA "app {0}";
        CREATE DOMAIN "app {0}".embedding AS "the ext%s".vector(8);
        ALTER TABLE docs RENAME COLUMN v TO "a ""v"" %s {0}";
        ALTER TABLE docs ALTER loose TYPE "app {0}".embedding;
        ALTER TABLE docs RENAME COLUMN id TO "i%";
        ALTER TABLE docs RENAME TO "docs %s {0}";
        ALTER TABLE "docs %s {0}" SET SCHEMA "app {0}";
        CREATE INDEX "i %s {0}" ON "app {0}"."docs %s {0}"
         USING hnsw ("a ""v"" %s {0}" "the ext%s".vector_cosine_ops);
        CREATE INDEX of_domain ON "app {0}"."docs %s {0}"
         USING hnsw ((loose::"the ext%s".vector(8)) "the ext%s".vector_l2_ops);
    """)

    measured = measure(docs, "docs %s {0}", schema="app {0}")

    columns = {"i %s {0}": 'a "v" %s {0}', "of_domain": "loose"}
    assert {recall.index: recall.column for recall in measured} == columns
    assert {(recall.recall, recall.note) for recall in measured} == {(1.0, None)}


def test_the_time_limit_holds_and_what_was_measured_is_reported(docs: Database) -> None:
    # Every row's distance takes 50 ms: one index's exact answers would take far longer.
    docs.run("""
        CREATE FUNCTION slow(vector) RETURNS vector(8) IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN IF current_setting('transaction_isolation') = 'repeatable read' THEN
             PERFORM pg_sleep(0.05); END IF; RETURN $1; END $$;
        CREATE INDEX docs_slow ON docs USING hnsw ((slow(v)::vector(8)) vector_l2_ops);
        CREATE INDEX docs_t ON docs USING hnsw (v vector_ip_ops);
        CREATE INDEX docs_u ON docs USING hnsw (v vector_cosine_ops);
        CREATE INDEX docs_v ON docs USING hnsw (v vector_l2_ops);
        ALTER TABLE docs DROP loose, DROP half, DROP sparse, DROP bits;
    """)
    started = time.monotonic()

    measured = {recall.index: recall for recall in measure(docs, seconds=4.0)}

    assert time.monotonic() - started < 8
    assert measured["docs_slow"].note == "the time for it ran out"
    assert measured["docs_v"].recall == 1.0, "the slow one has left its share"


@pytest.mark.parametrize(
    ("rights", "note"),
    [
        ("SELECT 1", "permission denied for table docs"),
        (
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY; GRANT SELECT ON docs TO PUBLIC",
            'query would be affected by row-level security policy for table "docs"',
        ),
    ],
)
def test_a_role_that_may_not_read_all_rows_gets_a_note(
    docs: Database, rights: str, note: str
) -> None:
    url = docs.create_role(f"prober_of_{docs.name}")
    docs.run(f"CREATE INDEX ON docs USING hnsw (v vector_cosine_ops); {rights}")

    (measured,) = measure(docs, url=url)

    assert (measured.recall, measured.note) == (None, note)


def test_a_lost_connection_is_no_failure(docs: Database) -> None:
    settings = settings_for(docs.url)
    with closing(connect(settings)) as connection:
        docs.run("SELECT pg_terminate_backend(%s)", [connection.get_backend_pid()])
        (measured,) = measure_recall(connection, ("public", "docs"), "the docs", 5, 60.0)

    assert measured.recall is None
    assert measured.note
