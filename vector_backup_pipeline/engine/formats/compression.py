"""Compression of blocks, each as a gzip member or zstd frame of its own.

Both formats allow a file of many, so several workers compress blocks at once, the writer appends
them in any order, and `zcat` or `zstd -d` read the whole as one stream (RFC 1952, section 2.2; RFC
8878, section 3).
"""

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vector_backup_pipeline.parameters.types import COMPRESSION_LEVELS, Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# The largest chunk that an unpacker yields, however much a few bytes unpack to.
_MAX_CHUNK_BYTES = 1 << 20
# A gzip header and trailer around the deflated data, instead of zlib's own.
_GZIP_WBITS = 16 + zlib.MAX_WBITS

# Higher levels of zstd make tables for inputs of many MB: 18 MB per worker. With 3 MB, enough for a
# block of 1 MiB, the ratio was the same (text of vectors, level 19: 0.378), speed twice as high.
_LAST_SMALL_LEVEL, _TABLE_LOG = 3, 17

Pack = Callable[[bytes], bytes]


class UnreadableFrame(ValueError):
    """The bytes are not what the codec wrote, or they end too early."""


class Unpacker:
    """Decompresses a stored stream in pieces that may be cut anywhere. `open_frame` makes a
    decompressor with the interface of Python's; None: the stream is not compressed."""

    def __init__(self, open_frame: Callable[[], Any] | None) -> None:
        self._open_frame = open_frame
        self._frame: Any = None

    @property
    def is_between_frames(self) -> bool:
        """Whether the pieces so far are whole frames."""
        return self._frame is None

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Chunks of at most a MiB, none empty. Raises `UnreadableFrame`."""
        if self._open_frame is None:
            if stored:
                yield stored
            return
        while stored:
            if self._frame is None:
                self._frame = self._open_frame()
            yield from self._unpack(stored)
            stored = b""
            if self._frame.eof:
                stored, self._frame = self._frame.unused_data, None

    def _unpack(self, stored: bytes) -> Iterator[bytes]:
        try:
            while True:
                chunk = self._frame.decompress(stored, _MAX_CHUNK_BYTES)
                stored = b""
                if chunk:
                    yield chunk
                if self._frame.eof or (self._frame.needs_input and not chunk):
                    return
        except (zlib.error, zstd.ZstdError) as error:
            raise UnreadableFrame(f"its compressed data is damaged: {error}") from error


class _GzipMember:
    """zlib's decompressor with the interface of Python's other ones."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_WBITS)

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


def _gzip_packer(level: int) -> Pack:
    def pack(data: bytes) -> bytes:
        deflate = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)
        return deflate.compress(data) + deflate.flush()

    return pack


def _zstd_packer(level: int) -> Pack:
    parameter = zstd.CompressionParameter
    # With a checksum in each frame, `zstd -t` detects a damaged file without our manifest.
    options: dict[int, int] = {parameter.compression_level: level, parameter.checksum_flag: 1}
    if level > _LAST_SMALL_LEVEL:
        options |= {parameter.hash_log: _TABLE_LOG, parameter.chain_log: _TABLE_LOG}
    compressor = zstd.ZstdCompressor(options=options)

    def pack(data: bytes) -> bytes:
        packed: bytes = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        return packed

    return pack


@dataclass(frozen=True)
class Codec:
    """A compression: what makes a packer for a level, and a decompressor for a frame."""

    name: Compression
    packer: Callable[[int], Pack]
    open_frame: Callable[[], Any] | None

    def make_pack(self, level: int | None) -> Pack:
        """A function that compresses blocks, for one thread; it does not hold the interpreter.
        `level` None is the first level, the fast one."""
        levels = COMPRESSION_LEVELS.get(self.name, range(1))
        return self.packer(levels[0] if level is None else level)

    def unpacker(self) -> Unpacker:
        return Unpacker(self.open_frame)


_CODECS: Mapping[str, Codec] = {
    "none": Codec("none", lambda _level: lambda data: data, None),
    "gzip": Codec("gzip", _gzip_packer, _GzipMember),
    "zstd": Codec("zstd", _zstd_packer, zstd.ZstdDecompressor),
}


def codec(name: str) -> Codec:
    """The codec that parameters and manifests call `name`."""
    return _CODECS[name]
