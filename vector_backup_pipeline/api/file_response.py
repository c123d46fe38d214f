"""Stream a stored file, or a range of it, as an HTTP response."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Generator, Mapping
from urllib.parse import quote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vector_backup_pipeline.api.byte_ranges import is_known, requested_range
from vector_backup_pipeline.api.errors import FileChanged
from vector_backup_pipeline.engine.catalog.downloads import Download
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    ResourceNotFound,
    StorageError,
)

_logger = logging.getLogger(__name__)

_MEDIA_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".zst": "application/zstd",
}
_OTHER_MEDIA_TYPE = "application/octet-stream"
# Always revalidate: the log grows, and a truncate rewrites the manifest.
_CACHE_CONTROL = "private, no-cache"
# Safe in `filename="…"` with every client; some decode "%41" there, or stop at ";".
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ._-]")
# RFC 8187's attr-char, beside letters and digits.
_ATTR_CHARS = "!#$&+-.^_`|~"


def file_response(download: Download, headers: Mapping[str, str], *, send_body: bool) -> Response:
    """The response to a request with these `headers` (a case-insensitive mapping, or lower-case
    names): 200, 206 or 304. HEAD has no body and ignores ranges.

    The first block is read before the headers are sent, so that an error until then becomes an
    error response. A later error closes the connection: the client gets fewer bytes than
    `Content-Length`.

    Raises:
        RangeNotSatisfiable: the range contains no byte of the file.
        ResourceNotFound, FileChanged, StorageError: while sending: the file was removed, was
            replaced, or cannot be read. The messages contain no path.
    """
    e_tag = f'"{download.version}"'
    shown = {"ETag": e_tag, "Cache-Control": _CACHE_CONTROL}
    if is_known(headers, e_tag):
        return Response(status_code=304, headers=shown)
    part = requested_range(headers, download.size, e_tag) if send_body else None
    shown |= {
        "Accept-Ranges": "bytes",
        "Content-Disposition": _content_disposition(download.name),
        "Content-Length": str(download.size if part is None else part.length),
        "Content-Type": _media_type(download.name),
        "X-Content-Type-Options": "nosniff",
    }
    if not send_body:
        return Response(headers=shown)
    if part is None:
        return _FileStream(_Blocks(download, 0, download.size), 200, shown)
    shown["Content-Range"] = part.content_range(download.size)
    return _FileStream(_Blocks(download, part.first, part.length), 206, shown)


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(f".{name.rpartition('.')[2]}", _OTHER_MEDIA_TYPE)


def _content_disposition(name: str) -> str:
    plain = _NOT_PLAIN.sub("_", name)
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
    return f'attachment; filename="{plain}"{exact}'


class _Blocks:
    """Iterates over blocks of a stored file: `length` bytes from `offset`. Reads run in worker
    threads."""

    def __init__(self, download: Download, offset: int, length: int) -> None:
        self._download = download
        self._left = length
        self._blocks = _read(download, offset, length)
        self._first: bytes | None = None
        # A cancelled read may still run in its thread when the file is closed.
        self._lock = threading.Lock()

    async def begin(self) -> None:
        """Open the file, read its first block, and check that it was not replaced."""
        await run_in_threadpool(self._begin)

    def __aiter__(self) -> _Blocks:
        return self

    async def __anext__(self) -> bytes:
        block, self._first = self._first, None
        if block is None and self._left:
            block = await run_in_threadpool(self._next)
        if not block:
            raise StopAsyncIteration
        return block

    async def close(self) -> None:
        """Close the file, even during cancellation."""
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(self._close)

    def _begin(self) -> None:
        name = self._download.name
        try:
            with self._lock:
                self._first = self._take() if self._left else b""
                if self._download.directory.version(name) != self._download.version:
                    raise FileChanged(name)
        except (FileChanged, ResourceNotFound, IntegrityError) as error:
            raise _error_without_path(error, name) from error
        except StorageError as error:
            _logger.error("The download of %r cannot start: %s", name, error)
            raise _error_without_path(error, name) from error

    def _next(self) -> bytes:
        try:
            with self._lock:
                return self._take()
        except Exception as error:
            _logger.error(
                "The download of %r from %s broke off %d bytes before its end: %s",
                self._download.name,
                self._download.directory.location,
                self._left,
                error if isinstance(error, BackupError) else type(error).__name__,
            )
            raise

    def _take(self) -> bytes:
        block = next(self._blocks, b"")
        if not block:
            raise IntegrityError("The file was cut off while it was being read.")
        self._left -= len(block)
        return block

    def _close(self) -> None:
        with self._lock:
            self._blocks.close()


def _read(download: Download, offset: int, length: int) -> Generator[bytes, None, None]:
    # Closing this generator closes the one that it reads from.
    yield from download.directory.read(download.name, offset, length)


def _error_without_path(error: BackupError, name: str) -> BackupError:
    if isinstance(error, ResourceNotFound):
        return ResourceNotFound(
            f"The file {name!r} was removed. See the list of backups for the files that exist."
        )
    if isinstance(error, (FileChanged, IntegrityError)):
        return FileChanged(name)
    return StorageError(
        f"The file {name!r} can't be read: the storage refused. This service's log says why."
    )


class _FileStream(StreamingResponse):
    """Sends blocks as the body and always closes the file."""

    def __init__(self, blocks: _Blocks, status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(blocks, status_code, headers)
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._blocks.begin()
            await super().__call__(scope, receive, send)
        finally:
            await self._blocks.close()
