"""Markers that keep runs apart: no two runs of a directory share a timestamp, a set that is being
read is not removed, and a location has one prune and one adoption at a time.

A reader writes its marker and then checks for a tombstone; a prune writes its tombstone and then
checks for readers. So at least one of them sees the other.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.catalog.contents import stamp_of_file
from vector_backup_pipeline.engine.errors import LockTimeout, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import (
    is_announcement,
    marker_name,
    reading_name,
    stamp_of_marker,
    stamp_of_pending,
    stamp_of_reading,
    tombstone_name,
)
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.run_markers import RunMarker

# Runs that start in the same second take the following seconds; so many at once are a mistake.
_TRIES = 60
# A turn takes less time, so an older announcement is that of a killed process.
_LONGEST_TURN = timedelta(hours=1)


def claim_timestamp(directory: BackupDirectory, run_id: str) -> tuple[str, RunMarker]:
    """Take the first free second from now on: no two runs of a directory share a timestamp. Raises
    `StorageError` if the marker can't be written, or no second is free."""
    timestamps = directory.timestamps
    now = timestamps.now()
    for second in range(_TRIES):
        stamp = timestamps.stamp(now + timedelta(seconds=second))
        marker = marker_name(stamp)
        if _has_files(directory, stamp) or not (claim := directory.claim(marker, run_id)):
            continue
        with contextlib.ExitStack() as unless_free:
            unless_free.callback(claim.release)
            # A run that had this second may have ended between the two checks.
            if not _has_files(directory, stamp, except_for=marker):
                unless_free.pop_all()
                return stamp, claim
    raise StorageError(
        f"No free timestamp in {directory.location}: other runs have taken the next {_TRIES}. Find "
        "what starts so many runs."
    )


def _has_files(directory: BackupDirectory, stamp: str, except_for: str | None = None) -> bool:
    names = (name for name in directory.names() if name != except_for)
    return any(stamp_of_file(name, directory.timestamps) == stamp for name in names)


def remove_leftovers(directory: BackupDirectory) -> None:
    """Remove unfinished files and markers of dead runs and readers; those of live ones stay.

    Files are listed before the markers are checked: so an unfinished file in the list belongs to a
    run whose marker can be seen, or to one that has ended.
    """
    files, timestamps = directory.files(), directory.timestamps
    markers = {name: s for name in directory.names() if (s := stamp_of_marker(name, timestamps))}
    alive = {marker for marker in markers if directory.claim_is_alive(marker)}
    live_stamps = {markers[marker] for marker in alive}
    for file in files:
        stamp = stamp_of_pending(file.name, timestamps)
        is_old = datetime.now(timezone.utc) - file.modified_at > _LONGEST_TURN
        if (stamp and stamp not in live_stamps) or (is_announcement(file.name) and is_old):
            directory.delete(file.name)
    for marker in markers.keys() - alive:
        directory.remove_dead_claim(marker)
    remove_dead_readers(directory, [file.name for file in files])


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


@contextlib.contextmanager
def claim_reading(
    directory: BackupDirectory, stamp: str, run_id: str, notices: list[str]
) -> Iterator[None]:
    """Keep the set from being removed during the block; adds a notice if no marker can be written.
    Removes the markers of dead readers. Raises `ResourceNotFound` if a prune is removing the
    set."""
    is_being_removed = False
    with contextlib.ExitStack() as held:
        try:
            remove_dead_readers(directory, directory.names())
            # None if this run has claimed it already.
            if claim := directory.claim(reading_name(stamp, run_id), run_id):
                held.callback(claim.release)
            is_being_removed = tombstone_name(stamp) in directory.names()
        except StorageError as error:
            held.close()
            notices.append(
                f"No marker could be written for {stamp}, so a prune may remove the set while it "
                f"is being read: {error.message}"
            )
        if is_being_removed:
            raise ResourceNotFound(
                f"The set {stamp} in {directory.location} is being removed by a prune. Choose "
                "another one."
            )
        yield


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
