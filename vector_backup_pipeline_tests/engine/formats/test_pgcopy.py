"""Binary COPY: tuples are split in chunks cut anywhere, and malformed ones are refused."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.csv_records import UnfinishedRecord
from vector_backup_pipeline.engine.formats.pgcopy import (
    HEADER,
    TRAILER,
    TupleSplitter,
    tuple_fields,
    without_framing,
)

FIELDS = st.lists(st.one_of(st.none(), st.binary(max_size=30)), max_size=5)


def row(fields: Sequence[bytes | None]) -> bytes:
    """A tuple as the documentation of COPY describes it."""
    lengths = [-1 if field is None else len(field) for field in fields]
    parts = [
        struct.pack(">i", length) + (field or b"")
        for length, field in zip(lengths, fields, strict=True)
    ]
    return struct.pack(">H", len(fields)) + b"".join(parts)


def split(data: bytes, step: int) -> tuple[list[bytes], TupleSplitter]:
    splitter = TupleSplitter()
    rows = []
    for begin in range(0, len(data), step):
        rows += splitter.feed(data[begin : begin + step])
    return rows, splitter


@given(st.lists(FIELDS), st.integers(1, 60))
def test_a_stream_is_cut_into_its_tuples(rows: list[list[bytes | None]], step: int) -> None:
    tuples = [row(fields) for fields in rows]

    parts, splitter = split(HEADER + b"".join(tuples) + TRAILER, step)

    splitter.finish()
    assert parts == tuples
    assert splitter.header == HEADER
    assert splitter.begun == 0
    assert [tuple_fields(part) for part in parts] == rows


@given(st.lists(FIELDS, min_size=1), st.data())
def test_a_truncated_stream_is_reported(
    rows: list[list[bytes | None]], data: st.DataObject
) -> None:
    whole = HEADER + b"".join(map(row, rows)) + TRAILER
    end = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(UnfinishedRecord, match="without the trailer"):
        split(whole[:end], 9)[1].finish()


@pytest.mark.parametrize("step", [1, 1000])
def test_bytes_after_the_trailer_are_reported(step: int) -> None:
    with pytest.raises(UnfinishedRecord, match="follow the trailer"):
        split(HEADER + row([b"x"]) + TRAILER + row([b"y"]), step)


@pytest.mark.parametrize("length", [-2, -(1 << 31), (1 << 31) - 1])
def test_an_impossible_length_of_a_field_is_reported(length: int) -> None:
    with pytest.raises(UnfinishedRecord, match=f"cannot have a field of {length} bytes"):
        split(HEADER + struct.pack(">Hi", 1, length), 100)


ONE, TWO = row([b"1", None]), row([b"2", b"two"])


@pytest.mark.parametrize(
    ("messages", "rows", "has_ended"),
    [
        ([HEADER + ONE], [ONE], False),
        ([HEADER + ONE, TWO], [ONE, TWO], False),
        ([ONE, TWO], [ONE, TWO], False),
        ([TWO, TRAILER], [TWO], True),
        ([TRAILER], [], True),
        ([HEADER + TRAILER], [], True),
        ([HEADER], [], False),
        ([HEADER, ONE, TRAILER], [ONE], True),
    ],
)
def test_header_and_trailer_are_taken_off_the_messages(
    messages: list[bytes], rows: list[bytes], has_ended: bool
) -> None:
    assert without_framing(list(messages)) == (rows, has_ended)


def test_a_header_that_says_more_than_we_know_is_refused() -> None:
    with pytest.raises(IntegrityError, match="does not know"):
        without_framing([HEADER[:-5] + b"\1" + HEADER[-4:] + ONE])
