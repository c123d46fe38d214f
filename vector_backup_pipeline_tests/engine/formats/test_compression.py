"""Blocks are compressed separately, and Python's own readers read them as one stream."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.formats.compression import UnreadableFrame, codec
from vector_backup_pipeline.parameters.types import COMPRESSION_LEVELS, COMPRESSIONS, Compression

PACKED = ("gzip", "zstd")
BLOCKS = st.lists(st.binary(min_size=1, max_size=300), max_size=6)


def packed(compression: Compression, blocks: list[bytes], level: int | None = None) -> bytes:
    pack = codec(compression).make_pack(level)
    return b"".join(map(pack, blocks))


def unpacked(compression: Compression, data: bytes, step: int) -> tuple[bytes, bool]:
    unpacker = codec(compression).unpacker()
    chunks = [
        chunk
        for begin in range(0, len(data), step)
        for chunk in unpacker.feed(data[begin : begin + step])
    ]
    assert all(chunks)
    return b"".join(chunks), unpacker.is_between_frames


@pytest.mark.parametrize("compression", COMPRESSIONS)
@given(blocks=BLOCKS, step=st.integers(1, 400))
def test_blocks_are_read_back_in_parts_of_any_size(
    compression: Compression, blocks: list[bytes], step: int
) -> None:
    data, is_whole = unpacked(compression, packed(compression, blocks), step)

    assert data == b"".join(blocks)
    assert is_whole


@pytest.mark.parametrize("compression", PACKED)
def test_every_level_of_the_list_can_be_used(compression: Compression) -> None:
    data = b"a line that is there many times\n" * 500

    sizes = [len(packed(compression, [data], level)) for level in COMPRESSION_LEVELS[compression]]

    assert all(size < len(data) / 10 for size in sizes)
    assert len(packed(compression, [data])) == sizes[0]


@pytest.mark.parametrize("compression", PACKED)
def test_what_ends_in_the_middle_of_a_frame_is_not_whole(compression: Compression) -> None:
    data = packed(compression, [b"first" * 50, b"second" * 50])

    for end in range(1, len(data)):
        is_whole = unpacked(compression, data[:end], 7)[1]
        assert is_whole == (end == len(packed(compression, [b"first" * 50])))


@pytest.mark.parametrize("compression", PACKED)
def test_damage_is_reported(compression: Compression) -> None:
    data = random.Random(1).randbytes(2000)  # noqa: S311 - only to be hard to compress
    stored = bytearray(packed(compression, [data]))
    stored[1000] ^= 1

    with pytest.raises(UnreadableFrame, match="its compressed data is damaged"):
        unpacked(compression, bytes(stored), 100)


@pytest.mark.parametrize("compression", PACKED)
def test_bytes_that_unfold_to_much_come_in_small_chunks(compression: Compression) -> None:
    stored = packed(compression, [bytes(50 << 20)])

    tracemalloc.start()
    unpacker = codec(compression).unpacker()
    size = sum(map(len, unpacker.feed(stored)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size == 50 << 20
    assert peak < 4 << 20
