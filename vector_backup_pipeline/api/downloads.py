"""Stream a stored file, or a range of it, as an HTTP response (RFC 9110, sections 13 and 14)."""

import itertools
import logging
import re
from collections.abc import Generator, Iterator, Mapping
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vector_backup_pipeline.api.errors import FileChanged, RangeNotSatisfiable
from vector_backup_pipeline.engine.catalog.downloads import Download
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError

_log = logging.getLogger(__name__)

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "gz": "application/gzip",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "zst": "application/zstd",
}
DEFAULT_MEDIA_TYPE = "application/octet-stream"
# Always revalidate: the log grows, and a truncate rewrites the manifest.
_CACHE_CONTROL = "private, no-cache"
# One range. No file has more than 18 digits of bytes; a longer number is no range.
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


async def file_response(
    download: Download,
    *,
    send_body: bool = True,
    if_none_match: str | None = None,
    if_range: str | None = None,
    range_: str | None = None,
) -> Response:
    """The response to a request with these headers: 200, 206 or 304. HEAD has no body and ignores
    ranges.

    The first block is read before the headers are sent, so that an error until then becomes an
    error response. A later error closes the connection: the client gets fewer bytes than
    `Content-Length`.

    Raises:
        RangeNotSatisfiable: the range contains no byte of the file.
        ResourceNotFound, FileChanged, StorageError: the file was removed, was replaced, or cannot
            be read.
    """
    e_tag = f'"{download.version}"'
    headers = {"ETag": e_tag, "Cache-Control": _CACHE_CONTROL}
    # A cache may have marked the tag as weak.
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    if e_tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    part = None
    if send_body and range_ and (if_range or e_tag).strip() == e_tag:
        part = parse_range(range_, download.size)
    quoted = quote(download.name, safe="")
    is_plain = quoted == download.name
    file_name = f'filename="{quoted}"' if is_plain else f"filename*=UTF-8''{quoted}"
    code, whole = (200, range(download.size)) if part is None else (206, part)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; {file_name}",
        "Content-Length": str(len(whole)),
        "Content-Type": MEDIA_TYPES.get(download.name.rpartition(".")[2], DEFAULT_MEDIA_TYPE),
        "X-Content-Type-Options": "nosniff",
    }
    if not send_body:
        return Response(headers=headers)
    if part is not None:
        headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{download.size}"
    blocks = _blocks(download, whole)
    first = await run_in_threadpool(_first_block, download, blocks)
    return _FileResponse(first, blocks, code, headers)


def parse_range(text: str, size: int) -> range | None:
    """The offsets of the bytes that a `Range` header asks for in a file of `size` bytes. None means
    the whole file: several or invalid ranges. Raises `RangeNotSatisfiable` if the range contains no
    byte of it."""
    match = _ONE_RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last = (int(number) if number else None for number in match.groups())
    if first is None and last is None:
        return None
    if first is None:
        # The last bytes. Content-Range cannot describe those of an empty file.
        if last and not size:
            return None
        first, last = max(0, size - (last or 0)), None
    if last is not None and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable(size)
    return range(first, size if last is None else min(last + 1, size))


class _FileResponse(StreamingResponse):
    """Sends a part of a file, whose first block has been read, and always closes the file."""

    def __init__(
        self,
        first: bytes,
        rest: Generator[bytes, None, None],
        code: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(itertools.chain([first], rest), code, headers)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._rest.close()


def _first_block(download: Download, blocks: Iterator[bytes]) -> bytes:
    """The first block, which was read from the version that was looked up."""
    try:
        first = next(blocks, b"")
    except IntegrityError as error:
        raise FileChanged(download.name) from error
    if download.directory.stat(download.name).version != download.version:
        raise FileChanged(download.name)
    return first


def _blocks(download: Download, part: range) -> Generator[bytes, None, None]:
    left = len(part)
    try:
        for block in download.directory.read(download.name, part.start, left):
            left -= len(block)
            yield block
        if left:
            raise IntegrityError(f"The file {download.name!r} was cut off while it was read.")
    except BackupError as error:
        _log.error(
            "The download of %r from %s ended %d bytes early: %s",
            download.name,
            download.directory.location,
            left,
            error,
        )
        raise
