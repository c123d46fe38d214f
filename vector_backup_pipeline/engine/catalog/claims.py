"""Markers that keep runs apart: a set that is being read is not removed, and a location has one
prune and one adoption at a time.

A reader writes its marker and then checks for a tombstone; a prune writes its tombstone and then
checks for readers. So at least one of them sees the other.
"""

import contextlib
from collections.abc import Iterable, Iterator

from vector_backup_pipeline.engine.errors import LockTimeout, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import reading_name, stamp_of_reading, tombstone_name
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.run_markers import RunMarker


@contextlib.contextmanager
def exclusive(directory: BackupDirectory, marker: str, run_id: str, work: str) -> Iterator[None]:
    """Hold a marker that only one run may hold. `work` is what such runs do, such as `prune`.
    Raises `LockTimeout` if another run holds it."""
    claim = directory.claim(marker, run_id)
    if claim is None:
        raise LockTimeout(
            f"Another {work} is active in {directory.location}. Retry when it has ended."
        )
    try:
        yield
    finally:
        claim.release()


def claim_reading(
    directory: BackupDirectory, stamp: str, run_id: str, notices: list[str]
) -> RunMarker | None:
    """Keep the set from being removed until the claim is released. None if this run has claimed it
    already, or, with a notice, if no marker can be written. Removes the markers of dead readers.
    Raises `ResourceNotFound` if a prune is removing the set."""
    claim = None
    try:
        remove_dead_readers(directory, directory.names())
        claim = directory.claim(reading_name(stamp, run_id), run_id)
        is_being_removed = tombstone_name(stamp) in directory.names()
    except StorageError as error:
        if claim is not None:
            claim.release()
        notices.append(
            f"No marker could be written for {stamp}, so a prune may remove the set while it is "
            f"being read: {error.message}"
        )
        return None
    if is_being_removed:
        if claim is not None:
            claim.release()
        raise ResourceNotFound(
            f"The set {stamp} in {directory.location} is being removed by a prune. Choose another "
            "one."
        )
    return claim


def remove_dead_readers(directory: BackupDirectory, names: Iterable[str]) -> None:
    """Remove those markers among `names` whose readers have died."""
    for name in names:
        if stamp_of_reading(name, directory.timestamps):
            directory.remove_dead_claim(name)


def stamps_being_read(directory: BackupDirectory, names: Iterable[str]) -> frozenset[str]:
    """The timestamps of the sets that a live run reads, by the markers among `names`."""
    timestamps = directory.timestamps
    markers = {name: stamp for name in names if (stamp := stamp_of_reading(name, timestamps))}
    return frozenset(stamp for name, stamp in markers.items() if directory.claim_is_alive(name))
