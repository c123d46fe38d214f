"""Reading an object as a stream that goes on where a lost connection left it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.storage.object_bucket import Bucket
from vector_backup_pipeline.engine.storage.object_errors import (
    is_range_ignored,
    is_transient,
    object_errors,
    store_exceptions,
)
from vector_backup_pipeline.engine.storage.object_retries import Retries

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

CHUNK_BYTES = 1 << 20


def read_object(
    bucket: Bucket, key: str, offset: int = 0, length: int | None = None
) -> Iterator[bytes]:
    """The bytes from `offset` on, `length` of them or all, in chunks of about a MiB.

    Raises:
        ResourceNotFound: there is no such object.
        IntegrityError: it was replaced while it was read.
        StorageError: the store refuses, or can't be reached any more.
    """
    if length == 0:
        return
    reading = _Reading(bucket, key, offset, length)
    retries = Retries()
    with object_errors(f"read {bucket.at(key)}"):
        while True:
            before = reading.position
            try:
                yield from reading.rest()
                return
            except store_exceptions() as error:
                if reading.position > before:
                    retries = Retries()
                retries.pause_after(error)


class _Reading:
    """How far one object has been read, and which state of it."""

    def __init__(self, bucket: Bucket, key: str, offset: int, length: int | None) -> None:
        self._bucket = bucket
        self._key = key
        self.position = offset
        self._end = None if length is None else offset + length
        self._e_tag: str | None = None
        self._is_begun = False

    def rest(self) -> Iterator[bytes]:
        """What has not been read yet."""
        if self._is_begun and self.position == self._end:
            return
        try:
            answer = self._get()
        except store_exceptions() as error:
            if is_transient(error) or is_range_ignored(error) or not self._is_past_the_end():
                raise
            return
        for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
            data = bytes(chunk)
            self.position += len(data)
            yield data
        if self.position != self._end:
            raise ConnectionError("The answer ended early.")

    def _is_past_the_end(self) -> bool:
        """Whether nothing is there to read because the object ends before."""
        if self._is_begun or (self.position == 0 and self._end is None):
            return False
        found = self._bucket.look(self._key)
        return found is not None and found.size <= self.position

    def _get(self) -> GetResult:
        import obstore
        from obstore.exceptions import PreconditionError

        options: GetOptions = {}
        if self._end is not None:
            options["range"] = (self.position, self._end)
        elif self.position:
            options["range"] = {"offset": self.position}
        if self._e_tag is not None:
            options["if_match"] = self._e_tag
        try:
            found = obstore.get(self._bucket.store, self._key, options=options)
        except PreconditionError:
            raise self._changed() from None
        if self._is_begun and found.meta["e_tag"] != self._e_tag:
            raise self._changed()
        self._is_begun = True
        self._e_tag, self._end = found.meta["e_tag"], found.range[1]
        return found

    def _changed(self) -> IntegrityError:
        return IntegrityError(
            f"{self._bucket.at(self._key)} was replaced while it was being read. Something else "
            "writes there; try again."
        )
