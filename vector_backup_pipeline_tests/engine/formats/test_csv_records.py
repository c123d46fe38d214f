"""Records are found again in a stream, wherever its chunks are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import (
    UnfinishedRecord,
    record_batches,
    split_records,
)

VALUES = st.one_of(st.none(), st.text(alphabet=st.sampled_from('a ",\n\r\\.é😀')), st.text())
RECORDS = st.lists(st.lists(VALUES, min_size=1, max_size=3).map(csv_record))


@st.composite
def _cut(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Records, and their stream in pieces of any size."""
    records = draw(RECORDS)
    data = b"".join(records)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return records, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(_cut())
def test_every_record_comes_back_with_its_line_end(cut: tuple[list[bytes], list[bytes]]) -> None:
    records, chunks = cut

    assert list(split_records(chunks)) == records


@given(_cut())
def test_batches_hold_the_records_without_line_ends(cut: tuple[list[bytes], list[bytes]]) -> None:
    records, chunks = cut

    batches = list(record_batches(chunks))

    assert [record + b"\n" for batch in batches for record in batch] == records
    assert all(batches)


@given(RECORDS, st.integers(1, 100))
def test_every_size_of_chunks_gives_the_same(records: list[bytes], size: int) -> None:
    data = b"".join(records)

    assert list(split_records(_chunks(data, size))) == records


@pytest.mark.parametrize(
    "rest", [b"1", b'"', b'"open\n', b'a,"b\nc', b'"a""', b" "], ids=lambda rest: rest.decode()
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_that_ends_in_a_record_is_refused_after_the_whole_ones(
    rest: bytes, size: int
) -> None:
    records = split_records(_chunks(b"1,2\n3,4\n" + rest, size))

    assert [next(records), next(records)] == [b"1,2\n", b"3,4\n"]
    with pytest.raises(UnfinishedRecord, match="middle of a record"):
        next(records)


def test_a_quote_that_nothing_closes_does_not_fill_the_memory() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        yield b'1,2\n3,"'
        while True:
            read += 1
            yield b"x" * 999 + b"\n"

    batches = record_batches(endless(), longest=10_000)

    assert next(batches) == [b"1,2"]
    with pytest.raises(UnfinishedRecord, match="never closed"):
        next(batches)
    assert read < 20


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
