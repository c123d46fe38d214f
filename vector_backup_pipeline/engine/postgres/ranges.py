"""Cutting tables into ranges of blocks that several connections read at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.postgres.tables import Relation, TableSource

# A range costs one statement (about 0.3 ms here). 8 MiB with TOAST keep that under a hundredth of
# the time its rows take, and let workers finish together.
_RANGE_BYTES = 8 << 20
# Where TOAST is read for few rows, the main fork alone counts: fewer ranges, but enough for all
# workers.
_SCAN_BYTES = 4 << 20
_BLOCK_BYTES = 8192
# With more ranges, the statements would take most of the time of a terabyte table.
_MOST_RANGES = 1024


@dataclass(frozen=True)
class BlockRange:
    """The rows of `relation` in blocks from `first` up to but not including `end`; open if that is
    None. With a `limit`, at most so many of them; with `changed_since`, those changed since the
    snapshot with that xmin."""

    relation: Relation
    first: int
    end: int | None
    limit: int | None = None
    changed_since: int | None = None

    @property
    def blocks(self) -> int:
        return (self.relation.blocks if self.end is None else self.end) - self.first

    @property
    def needs_no_plan(self) -> bool:
        """Whether COPY reads the relation itself, since no query can be planned. It can't read a
        partitioned table like that."""
        return self.relation.only and not self.relation.plannable and self.limit is None

    def copy_source(self, columns: Sequence[str]) -> Composable:
        """What COPY reads: the query, or the relation itself, without its children."""
        if self.needs_no_plan:
            return Identifier(self.relation.schema, self.relation.name) + column_list(columns)
        return SQL("({})").format(self.query(columns))

    def query(self, columns: Sequence[str]) -> Composable:
        """The SELECT of the range's rows, `columns` in the file's order."""
        return self.select(SQL(", ").join(map(Identifier, columns)))

    def select(self, expressions: Composable) -> Composable:
        source = self.relation.source
        if self.limit is not None:
            source = SQL("(SELECT * FROM {} LIMIT {}) AS limited").format(
                source, Literal(self.limit)
            )
        select = SQL("SELECT {} FROM {}").format(expressions, source)
        bounds: list[Composable] = []
        if self.first > 0:
            bounds.append(SQL("ctid >= {}").format(_tid(self.first)))
        if self.end is not None:
            bounds.append(SQL("ctid < {}").format(_tid(self.end)))
        if self.changed_since is not None:
            bounds.append(has_changed_since(self.changed_since))
        if bounds:
            select += SQL(" WHERE ") + SQL(" AND ").join(bounds)
        return select


@dataclass(frozen=True)
class KeyRange(BlockRange):
    """All rows of a range, with a first column: the row's ctid if it has changed since the snapshot
    whose xmin is `base_xmin`; NULL in each row if that is None."""

    base_xmin: int | None = None

    def query(self, columns: Sequence[str]) -> Composable:
        mark: Composable = SQL("NULL")
        if self.base_xmin is not None:
            mark = SQL("CASE WHEN {} THEN ctid END").format(has_changed_since(self.base_xmin))
        return self.select(SQL(", ").join([mark, *map(Identifier, columns)]))


def has_changed_since(xmin: int) -> Composable:
    """Whether a row was written by a transaction that the snapshot with this 64-bit `xmin` did not
    see as ended, or by a later one.

    Both ages are relative to the same transaction, which is later than any that this snapshot sees,
    so a wraparound between them does not matter as long as the snapshot is younger than 2^31
    transactions. Freezing a row keeps its xmin: the age of an old row wraps around too, to less
    than 0 or, after 2^32 transactions, to any other. Then the row may count as changed.
    """
    return SQL(
        "pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age({}::pg_catalog.xid)"
        " AND pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0"
    ).format(Literal(str(xmin % (1 << 32))))


def cut_into_ranges(table: TableSource, *, reads_toast: bool = True) -> list[BlockRange]:
    """Ranges that together hold every row of the snapshot once; at least one a relation. They are
    larger unless the TOAST of all rows is read."""
    ranges = []
    for relation in table.relations:
        count = _count(relation)
        if not reads_toast:
            count = min(count, relation.blocks * _BLOCK_BYTES // _SCAN_BYTES + 1)
        step = -(-relation.blocks // count) or 1
        starts = list(range(0, relation.blocks, step)) or [0]
        # The last range is open: blocks may have been added after the count.
        ends = [*starts[1:], None]
        ranges += [BlockRange(relation, *bounds) for bounds in zip(starts, ends, strict=True)]
    return ranges


def most_ranges(table: TableSource) -> int:
    return sum(_count(relation) for relation in table.relations)


def _count(relation: Relation) -> int:
    if not relation.by_ranges:
        return 1
    return max(1, min(relation.blocks, relation.size // _RANGE_BYTES, _MOST_RANGES))


def column_list(columns: Sequence[str]) -> Composable:
    """COPY's list of columns; none for a table without columns, which can't have a list."""
    if not columns:
        return SQL("")
    return SQL(" ({})").format(SQL(", ").join(map(Identifier, columns)))


def _tid(block: int) -> Composable:
    return Literal(f"({block},0)") + SQL("::pg_catalog.tid")
