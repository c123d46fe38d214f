"""However a table is cut, every block is in exactly one range, and the last range is open."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.postgres.ranges import (
    _MOST_RANGES,
    _RANGE_BYTES,
    cut_into_ranges,
    most_ranges,
)
from vector_backup_pipeline.engine.postgres.tables import Relation, ResolvedTable, TableSource

MOST_BLOCKS = 2**32 - 2  # PostgreSQL's MaxBlockNumber


def relation(blocks: int, toast: int = 0, *, by_ranges: bool = True) -> Relation:
    size = blocks * 8192 + toast
    return Relation(1, "public", "t", True, by_ranges, blocks, size, None, 1)


def table(*relations: Relation) -> TableSource:
    return TableSource(ResolvedTable(1, "public", "t", "r", "t", None), ("id",), relations)


RELATIONS = st.builds(
    relation,
    st.one_of(st.integers(0, 50), st.integers(0, MOST_BLOCKS)),
    st.one_of(st.just(0), st.integers(0, 2**45)),
    by_ranges=st.booleans(),
)


@given(st.lists(RELATIONS, max_size=4))
def test_ranges_are_disjoint_cover_everything_end_open_and_are_not_too_many(
    relations: list[Relation],
) -> None:
    source = table(*relations)
    assert len(cut_into_ranges(source)) <= most_ranges(source)
    assert most_ranges(source) <= _MOST_RANGES * len(relations)
    for relation in relations:
        ranges = cut_into_ranges(table(relation))

        assert ranges[0].first == 0
        assert all(one.end == other.first for one, other in pairwise(ranges))
        assert [one.end for one in ranges].count(None) == 1
        assert ranges[-1].end is None
        assert sum(one.blocks for one in ranges) == relation.blocks


@given(st.integers(2, MOST_BLOCKS), st.integers(0, 2**45))
def test_only_what_can_be_read_by_ctid_is_cut(blocks: int, toast: int) -> None:
    assert len(cut_into_ranges(table(relation(blocks, toast, by_ranges=False)))) == 1


@pytest.mark.parametrize(
    ("blocks", "toast", "ranges"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (1, 1 << 40, 1),  # A single block can't be cut.
        (2 * _RANGE_BYTES // 8192 - 1, 0, 1),
        (2 * _RANGE_BYTES // 8192, 0, 2),
        (4, 4 * _RANGE_BYTES, 4),  # A few rows, each with much TOAST.
        (MOST_BLOCKS, 0, _MOST_RANGES),
    ],
)
def test_size_with_toast_decides_how_many_ranges_there_are(
    blocks: int, toast: int, ranges: int
) -> None:
    assert len(cut_into_ranges(table(relation(blocks, toast)))) == ranges
