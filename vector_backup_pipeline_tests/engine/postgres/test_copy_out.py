"""Rows are exported as the server writes them, in fetches of a few MB at any row width."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres import copy_out
from vector_backup_pipeline.engine.postgres.copy_out import fetch_range
from vector_backup_pipeline.engine.postgres.ranges import BlockRange
from vector_backup_pipeline.engine.postgres.tables import Relation
from vector_backup_pipeline_tests.fix_postgres import Database

BATCH = 1000
# The limit of a fetch, unless a single row is wider.
FEW_BYTES = 4 << 20

WHOLE = BlockRange(Relation(0, "public", "t", True, True, 0, 0, None, None), 0, None)


class WatchedConnection:
    """Forwards to a connection, and counts the characters of each fetch."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.server_version = connection.server_version
        self.fetches: list[int] = []

    def cursor(self, name: str | None = None, **options: Any) -> Cursor:
        fetches = self.fetches

        class WatchedCursor(Cursor):
            def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
                rows = super().fetchmany(size)
                if rows:
                    fetches.append(sum(len(value or "") for row in rows for value in row))
                return rows

        return self._connection.cursor(name, cursor_factory=WatchedCursor, **options)


def fetch_sizes(database: Database, batch_size: int = BATCH) -> list[int]:
    """The characters of each fetch, after a check that all rows were read."""
    with database.session() as connection:
        watched: Any = WatchedConnection(connection)
        rows = list(fetch_range(watched, WHOLE, ("v",), batch_size))
    assert len(rows) == database.ask_one("SELECT count(*) FROM t")
    return list(watched.fetches)


def fetched(database: Database, *columns: str) -> list[Any]:
    with database.session() as connection:
        return list(fetch_range(connection, WHOLE, columns, BATCH))


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            "CREATE TABLE t (v jsonb); INSERT INTO t"
            """ SELECT jsonb_build_object('a', repeat('x', 200000)) FROM generate_series(1, 100)""",
            id="jsonb that compresses well",
        ),
        pytest.param(
            """CREATE TABLE t (v text); INSERT INTO t SELECT 'small' FROM generate_series(1, 3000);
               INSERT INTO t SELECT repeat('x', 100000) FROM generate_series(1, 200)""",
            id="the wide ones last",
        ),
        pytest.param(
            """CREATE TABLE t (v varbit); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
               INSERT INTO t SELECT repeat('1', 100000)::varbit FROM generate_series(1, 300)""",
            id="a character a bit",
        ),
        pytest.param(
            """CREATE TABLE t (v halfvec); INSERT INTO t
               SELECT array_fill(-6.1035156e-05, ARRAY[4000])::halfvec
                 FROM generate_series(1, 300)""",
            id="long numbers of two bytes",
        ),
    ],
)
def test_a_fetch_stays_within_a_few_megabytes(database: Database, statements: str) -> None:
    database.run(statements)

    assert max(fetch_sizes(database)) < FEW_BYTES


def test_fetches_shrink_where_text_is_longer_than_can_be_foreseen(database: Database) -> None:
    database.run(
        "CREATE TABLE t (v int[]); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; INSERT INTO t"
        " SELECT array_fill(NULL::int, ARRAY[20000]) FROM generate_series(1, 300)"
    )

    assert max(fetch_sizes(database)[1:]) < FEW_BYTES


@pytest.mark.parametrize(
    ("size", "rows", "sizes"),
    [
        pytest.param(1, 2500, [1000, 1000, 500], id="narrow rows: as many as asked for"),
        pytest.param(5_000_000, 3, [5_000_000] * 3, id="a row wider than a fetch comes alone"),
    ],
)
def test_the_number_of_rows_a_fetch_follows_their_width(
    database: Database, size: int, rows: int, sizes: list[int]
) -> None:
    database.run("CREATE TABLE t (v text)")
    database.run("INSERT INTO t SELECT repeat('x', %s) FROM generate_series(1, %s)", [size, rows])

    assert fetch_sizes(database) == sizes


@contextmanager
def five_blocks(database: Database) -> Iterator[list[BlockRange]]:
    database.run(
        "CREATE TABLE t (v int, filler text); ALTER TABLE t ALTER filler SET STORAGE PLAIN"
    )
    database.run("INSERT INTO t SELECT i, repeat('x', 3000) FROM generate_series(1, 10) i")
    cuts = [0, 1, 3, None]
    yield [BlockRange(WHOLE.relation, cuts[n] or 0, cuts[n + 1]) for n in range(3)]


def test_a_range_reads_its_blocks_alone_and_the_open_one_those_added_later(
    any_database: Database,
) -> None:
    with five_blocks(any_database) as ranges, any_database.session() as connection:
        values = [[v for (v,) in fetch_range(connection, ctids, ("v",), 10)] for ctids in ranges]
        query = ranges[1].query(("v",)).as_string(connection)
        plan = any_database.ask(f"EXPLAIN {query}")
        any_database.run("INSERT INTO t SELECT 99, repeat('x', 3000) FROM generate_series(1, 9)")
        later = list(fetch_range(connection, ranges[-1], ("v",), 10))

    assert values == [["1", "2"], ["3", "4", "5", "6"], ["7", "8", "9", "10"]]
    assert "Tid Range Scan" in str(plan)
    assert len(later) == 4 + 9


def test_a_server_that_can_not_tell_compression_is_asked_without(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_out, "_COMPRESSION_KNOWN_SINCE", 999999)
    database.run("CREATE TABLE t (v jsonb); INSERT INTO t VALUES ('{}'), (NULL)")

    assert fetched(database, "v") == [("{}",), (None,)]


def test_no_large_row_is_kept_until_the_next_one_comes(database: Database) -> None:
    size = 8 << 20
    database.run(
        "CREATE TABLE t (v text); INSERT INTO t SELECT repeat('x', %s) FROM generate_series(1, 4)",
        [size],
    )
    with database.session() as connection:
        tracemalloc.start()
        rows = sum(map(len, fetch_range(connection, WHOLE, ("v",), BATCH)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert rows == 4
    assert peak < 1.5 * size
