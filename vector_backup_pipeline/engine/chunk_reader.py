"""Chunks of bytes as a file that a library reads."""

from collections.abc import Iterator

_DEFAULT_BYTES = 64 << 10


class ChunkReader:
    """A file to read from, made of chunks. Keeps an error of `chunks`: the library reports only its
    text."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self.error: BaseException | None = None

    def read(self, size: int = _DEFAULT_BYTES, /) -> bytes:
        """At most `size` bytes; nothing at the end."""
        if self._at >= len(self._chunk):
            try:
                self._chunk, self._at = next(self._chunks, b""), 0
            except BaseException as error:
                self.error = error
                raise
        begin, self._at = self._at, self._at + size
        return self._chunk[begin : self._at]

    # psycopg2 never calls this, but its type stubs require it.
    readline = read
