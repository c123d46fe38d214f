"""A stored file as an HTTP answer: streamed, whole or in part, never whole in memory."""

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
from vector_backup_pipeline.engine.catalog import Download
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
# Always asked for again: the log grows, and a manifest is written anew after a truncate.
_CACHE_CONTROL = "private, no-cache"
# What every client takes as it is in `filename="…"`; some decode "%41" there, or stop at ";".
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ._-]")
# RFC 8187's attr-char, beside letters and digits.
_AS_IT_IS = "!#$&+-.^_`|~"


def file_response(download: Download, headers: Mapping[str, str], *, send_body: bool) -> Response:
    """The answer to a request with these `headers` (their names in lower case, or a mapping that
    does not tell cases apart): 200, 206 or 304. Without a body for HEAD, which knows no ranges.

    Nothing is read before the answer is sent. Then the first block is read before the headers go
    out: until then an error is raised as one of ours, to be made an error's answer. What fails
    later breaks the connection, so that the caller gets fewer bytes than `Content-Length` says.

    Raises:
        RangeNotSatisfiable: none of the file's bytes is in the range asked for.
        ResourceNotFound, FileChanged, StorageError: when it is sent: the file is gone, is another
            one by now, or can't be read. No message names a path of this machine.
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
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe=_AS_IT_IS)}"
    return f'attachment; filename="{plain}"{exact}'


class _Blocks:
    """`length` bytes of a stored file from `offset` on, block after block. Each step runs in a
    worker thread."""

    def __init__(self, download: Download, offset: int, length: int) -> None:
        self._download = download
        self._left = length
        self._blocks = _read(download, offset, length)
        self._first: bytes | None = None
        # A cancelled step may still be at work in its thread when the file is to be closed.
        self._lock = threading.Lock()

    async def begin(self) -> None:
        """Read the first block; the file is open, and known to be the one that was found."""
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
        """Close the file, whatever is being cancelled meanwhile."""
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
            raise _told_without_path(error, name) from error
        except StorageError as error:
            _logger.error("The download of %r can't begin: %s", name, error)
            raise _told_without_path(error, name) from error

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
    # `yield from` closes what it reads from when it is closed itself.
    yield from download.directory.read(download.name, offset, length)


def _told_without_path(error: BackupError, name: str) -> BackupError:
    if isinstance(error, ResourceNotFound):
        return ResourceNotFound(
            f"The file {name!r} is gone since it was asked for. See the list of backups for what "
            "is there."
        )
    if isinstance(error, (FileChanged, IntegrityError)):
        return FileChanged(name)
    return StorageError(
        f"The file {name!r} can't be read: the storage refused. This service's log says why."
    )


class _FileStream(StreamingResponse):
    """Blocks as an answer's body; the file is closed however that ends."""

    def __init__(self, blocks: _Blocks, status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(blocks, status_code, headers)
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._blocks.begin()
            await super().__call__(scope, receive, send)
        finally:
            await self._blocks.close()
