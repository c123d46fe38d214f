"""Whether an HNSW index can be built in memory, told before hours are spent on building it on disk.

pgvector builds the graph in maintenance_work_mem. Once that is full, every further row is inserted
into pages, one by one, which takes many times as long (pgvector, "Index Build Time").
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier

from vector_backup_pipeline.engine.postgres.definitions.reading import side_read
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.table_definition import Index

# An element of the graph is its value, 2 m links in the lowest layer of 16 bytes each, and what is
# the same for all: its head, its links in the upper layers, the allocator's. Measured with pgvector
# 0.8.5 on PostgreSQL 18 as maintenance_work_mem divided by the rows of its notice "hnsw graph no
# longer fits into maintenance_work_mem after … tuples", less the value's size:
#
#     m = 4: 334   16: 709 to 737   32: 1216   48: 1739   64: 2241 bytes
#
# with vector (3, 384, 1536 dimensions), halfvec (1536, 3072), bit (384, 1536) and sparsevec.
_LINK_BYTES = 16
_ELEMENT_BYTES = 200
# A parallel build keeps a part of the memory for other things: 3.6 to 4.1 MiB were missing.
_SHARED_BYTES = 4 << 20
_DEFAULT_M = 16

# Rows of one column are much alike in size, but for sparsevec.
_SAMPLED_ROWS = 100
# What is recommended is a little more than the estimate.
_MARGIN = 1.1

_MEGABYTE, _GIGABYTE = 1 << 20, 1 << 30
# Names and texts, whose parentheses say nothing, and those that do.
_TOKENS = re.compile(r'"(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'|[()]')
_M = re.compile(r"\bm='?(\d+)")


def hnsw_memory_notice(
    cursor: Cursor, schema: str, table: str, index: Index, *, rows: int
) -> str | None:
    """What a person should know before `index` is built over a table of `rows` rows.

    None where its graph fits into this session's maintenance_work_mem, or where nobody can tell:
    an estimate is no reason to fail, so what the server refuses is rolled back to before.
    """
    key = _key_of(index.definition)
    if key is None:
        return None
    with contextlib.suppress(psycopg2.Error), side_read(cursor):
        return _notice(_Estimate(cursor, Identifier(schema, table), key), rows, index, table)
    return None


def _notice(estimate: _Estimate, rows: int, index: Index, table: str) -> str | None:
    available = estimate.available()
    element = estimate.element_bytes()
    if element is None or _fits(rows * element, available):
        return None
    # Not every row has to be in the index; but counting those that are takes a look at all.
    indexed = min(rows, estimate.indexed_rows())
    needed = indexed * element
    if _fits(needed, available):
        return None
    return (
        f"The HNSW index {index.name} of {table} needs about {readable_size(round(needed))} of "
        f"memory for {indexed} rows, but maintenance_work_mem is {readable_size(available)}: the "
        "rest is built on disk, which takes many times as long. Set maintenance_work_mem to at "
        f"least {_setting(needed)}."
    )


def _fits(needed: float, available: int) -> bool:
    return needed <= max(available - _SHARED_BYTES, available / 2)


def _setting(needed: float) -> str:
    recommended = needed * _MARGIN + _SHARED_BYTES
    if recommended < 10 * _GIGABYTE:
        return f"{math.ceil(recommended / _MEGABYTE)}MB"
    return f"{math.ceil(recommended / _GIGABYTE)}GB"


class _Key(NamedTuple):
    """What an index holds, as SQL, of which rows, and its `m`."""

    value: str
    predicate: str
    m: int


def _key_of(definition: str) -> _Key | None:
    """The key of `CREATE INDEX … USING hnsw (key opclass) WITH (m='16') WHERE (…)`, which has one
    column; None if it does not read so."""
    parentheses = [t for t in _TOKENS.finditer(definition) if t.group() in "()"]
    depth, start = 0, 0
    for token in parentheses:
        start = start or token.end()
        depth += 1 if token.group() == "(" else -1
        if depth == 0:
            value = _without_operator_class(definition[start : token.start()])
            options, _, predicate = definition[token.end() :].partition(" WHERE ")
            m = _M.search(options)
            return _Key(value, predicate or "true", int(m.group(1)) if m else _DEFAULT_M)
    return None


def _without_operator_class(key: str) -> str:
    """pg_get_indexdef always names it for HNSW, which has no default one for any type."""
    names = r'(?:"(?:[^"]|"")*"|[^\s".()]+)'
    return re.sub(rf"\s+(?:{names}\.)?{names}$", "", key)


@dataclass(frozen=True)
class _Estimate:
    cursor: Cursor
    table: Identifier
    key: _Key

    def available(self) -> int:
        return int(self._number("SELECT pg_size_bytes(current_setting('maintenance_work_mem'))"))

    def element_bytes(self) -> float | None:
        """Of a few rows of the table; None if it has none to index."""
        value = self._number(
            SQL(
                "SELECT avg(size) FROM (SELECT pg_column_size({}) AS size {} LIMIT {}) sample"
            ).format(SQL(self.key.value), self._indexed(), SQL(str(_SAMPLED_ROWS)))
        )
        if value is None:
            return None
        return float(value) + 2 * self.key.m * _LINK_BYTES + _ELEMENT_BYTES

    def indexed_rows(self) -> int:
        return int(self._number(SQL("SELECT count(*) {}").format(self._indexed())))

    def _indexed(self) -> Composable:
        """ONLY, because the definition of a partitioned table's index is that of an empty frame."""
        return SQL("FROM ONLY {} WHERE {} IS NOT NULL AND ({})").format(
            self.table, SQL(self.key.value), SQL(self.key.predicate)
        )

    def _number(self, query: str | Composable) -> Any:
        self.cursor.execute(query)
        ((number,),) = self.cursor.fetchall()
        return number
