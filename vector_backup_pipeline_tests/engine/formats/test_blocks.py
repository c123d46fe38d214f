"""Blocks contain whole rows of any size, and the digest depends only on the rows."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.formats import blocks
from vector_backup_pipeline.engine.formats.blocks import (
    BLOCK_BYTES,
    BlockBuilder,
    RowBlock,
)
from vector_backup_pipeline_tests.fix_rows import digest_of

ROWS = st.lists(st.binary(max_size=40).map(lambda row: row.replace(b"\n", b" ") + b"\n"))


def blocks_of(rows: list[bytes]) -> list[RowBlock]:
    made: list[RowBlock] = []
    builder = BlockBuilder(made.append)
    for row in rows:
        builder.write(row)
    builder.flush()
    assert builder.rows == len(rows)
    return made


def total_digest(made: list[RowBlock]) -> str:
    return f"{sum(block.digest for block in made) % 2**128:032x}"


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 500)
        yield


@given(ROWS, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_rows_order(
    rows: list[bytes], order: random.Random
) -> None:
    before = total_digest(blocks_of(rows))
    order.shuffle(rows)

    assert total_digest(blocks_of(rows)) == before == digest_of([row[:-1] for row in rows])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([b"a\n", b"a\n"], [b"a\n"]),
        ([b"a\n", b"b\n"], [b"ab\n"]),
        ([b"a\n", b"a\n"], [b"b\n", b"b\n"]),  # With XOR, both would cancel out.
        ([b"\n"], []),
    ],
)
def test_the_digest_distinguishes_sets_of_rows(one: list[bytes], other: list[bytes]) -> None:
    assert total_digest(blocks_of(one)) != total_digest(blocks_of(other))


def test_a_row_larger_than_a_block_is_a_block_of_its_own() -> None:
    made = blocks_of([b"small\n", b"x" * 5000 + b"\n", b"small\n"])

    assert [block.rows for block in made] == [2, 1]


def test_blocks_of_tiny_rows_stay_small_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", BLOCK_BYTES)

    made = blocks_of([b"\n"] * 100_000)

    assert max(block.rows for block in made) < 30_000
