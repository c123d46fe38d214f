"""Compression block by block: each block is a gzip member or zstd frame of its own.

Both formats allow a file of many, so blocks are compressed by several workers at once and appended
in any order, and `zcat`, `zstd -d` and their like read the whole as one (RFC 1952, section 2.2; RFC
8878, section 3).
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from vector_backup_pipeline.parameters.types import COMPRESSION_LEVELS, Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What a reader hands on at most at once, however much a few bytes unfold to.
_OUTPUT_BYTES = 1 << 20
# A gzip header and trailer around the deflated data, instead of zlib's own.
_AS_GZIP = 16 + zlib.MAX_WBITS

# Higher levels of zstd make tables for inputs of many MB: 18 MB a worker. A block is a MiB; with
# tables for that it got as small (text of vectors, level 19: 0.378 of its size with both) in 3 MB,
# twice as fast.
_LAST_SMALL_LEVEL, _TABLE_LOG = 3, 17

Pack = Callable[[bytes], bytes]


class UnreadableFrame(ValueError):
    """The bytes are not what the codec wrote, or they end too early."""


class Unpacker(Protocol):
    """Takes a stored stream in pieces that may be cut anywhere, and gives what was packed."""

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Chunks of at most a MiB, none empty. Raises `UnreadableFrame`."""

    @property
    def is_between_frames(self) -> bool:
        """Whether all that was fed are whole frames."""


@dataclass(frozen=True)
class Codec:
    """A way to compress. `packer` makes, for a level, what compresses blocks one after the other,
    in one thread and without holding the interpreter."""

    name: Compression
    packer: Callable[[int], Pack]
    unpacker: Callable[[], Unpacker]

    def make_pack(self, level: int | None) -> Pack:
        """A packer for a thread; `level` None is the fast one."""
        levels = COMPRESSION_LEVELS.get(self.name, range(1))
        return self.packer(levels[0] if level is None else level)


def codec(name: str) -> Codec:
    """The codec that parameters and manifests call `name`."""
    return _CODECS[name]


class _Frames:
    """Frames or members one after the other, whatever the pieces they come in."""

    def __init__(self, open_frame: Callable[[], _FrameReader]) -> None:
        self._open_frame = open_frame
        self._frame: _FrameReader | None = None

    @property
    def is_between_frames(self) -> bool:
        return self._frame is None

    def feed(self, stored: bytes) -> Iterator[bytes]:
        while stored:
            if self._frame is None:
                self._frame = self._open_frame()
            yield from self._unpack(self._frame, stored)
            stored = b""
            if self._frame.eof:
                stored, self._frame = self._frame.unused_data, None

    @staticmethod
    def _unpack(frame: _FrameReader, stored: bytes) -> Iterator[bytes]:
        try:
            while True:
                chunk = frame.decompress(stored, _OUTPUT_BYTES)
                stored = b""
                if chunk:
                    yield chunk
                if frame.eof or (frame.needs_input and not chunk):
                    return
        except (zlib.error, zstd.ZstdError) as error:
            raise UnreadableFrame(f"its compressed data is damaged: {error}") from error


class _FrameReader(Protocol):
    """What Python's decompressors have in common; zlib's own is different."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipMember:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_AS_GZIP)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


class _Plain:
    """Bytes as they are."""

    is_between_frames = True

    def feed(self, stored: bytes) -> Iterator[bytes]:
        if stored:
            yield stored


def _gzip_packer(level: int) -> Pack:
    def pack(data: bytes) -> bytes:
        deflate = zlib.compressobj(level, zlib.DEFLATED, _AS_GZIP)
        return deflate.compress(data) + deflate.flush()

    return pack


def _zstd_packer(level: int) -> Pack:
    parameter = zstd.CompressionParameter
    # With a checksum in each frame `zstd -t` can tell a damaged file without our manifest.
    options: dict[int, int] = {parameter.compression_level: level, parameter.checksum_flag: 1}
    if level > _LAST_SMALL_LEVEL:
        options |= {parameter.hash_log: _TABLE_LOG, parameter.chain_log: _TABLE_LOG}
    compressor = zstd.ZstdCompressor(options=options)

    def pack(data: bytes) -> bytes:
        packed: bytes = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        return packed

    return pack


_CODECS: Mapping[str, Codec] = {
    each.name: each
    for each in (
        Codec("none", lambda _level: lambda data: data, _Plain),
        Codec("gzip", _gzip_packer, lambda: _Frames(_GzipMember)),
        Codec("zstd", _zstd_packer, lambda: _Frames(zstd.ZstdDecompressor)),
    )
}
