"""Reading an object as a stream that goes on where a lost connection left it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.storage.object_bucket import Bucket
from vector_backup_pipeline.engine.storage.object_errors import (
    as_storage_error,
    store_exceptions,
)

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

CHUNK_BYTES = 1 << 20
# Each without a byte in between; a connection that brings some may be lost any number of times.
_TRIES = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0


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
    failures = 0
    while (answer := reading.ask()) is not None:
        before = reading.position
        try:
            yield from reading.chunks(answer)
            return
        except store_exceptions() as error:
            failures = 1 if reading.position > before else failures + 1
            if failures >= _TRIES:
                raise as_storage_error(error, f"read {bucket.at(key)}") from None
        time.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2**failures) * random.uniform(0.5, 1))  # noqa: S311


class _Reading:
    """How far one object has been read, and which state of it."""

    def __init__(self, bucket: Bucket, key: str, offset: int, length: int | None) -> None:
        self._bucket = bucket
        self._key = key
        self.position = offset
        self._end = None if length is None else offset + length
        self._e_tag: str | None = None
        self._is_begun = False

    def ask(self) -> GetResult | None:
        """Ask for what is left, None if nothing is. The driver itself asks again where that may
        help."""
        if self._is_begun and self.position == self._end:
            return None
        try:
            return self._get()
        except store_exceptions() as error:
            if self._is_past_the_end():
                return None
            raise as_storage_error(error, f"read {self._bucket.at(self._key)}") from None

    def chunks(self, answer: GetResult) -> Iterator[bytes]:
        for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
            data = bytes(chunk)
            self.position += len(data)
            yield data
        if self.position != self._end:
            raise ConnectionError("HTTP error: the answer ended too early")

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
