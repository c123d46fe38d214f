"""The reservation of a run's timestamp by its marker, and the cleanup after dead runs."""

from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.catalog.claims import remove_dead_readers
from vector_backup_pipeline.engine.catalog.contents import stamps_in_use
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.file_names import (
    is_announcement,
    marker_name,
    stamp_of_marker,
    stamp_of_pending,
)
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.run_markers import RunMarker

# Runs that start in the same second take the following seconds; so many at once are a mistake.
_TRIES = 60
# A process with an older announcement was killed, since a turn takes less time.
_LONGEST_TURN = timedelta(hours=1)


def claim_timestamp(directory: BackupDirectory, run_id: str) -> tuple[str, RunMarker]:
    """Take the first free second from now on: no two runs of a directory share a timestamp. Raises
    `StorageError` if the marker can't be written, or no second is free."""
    timestamps = directory.timestamps
    for stamp in timestamps.candidates(timestamps.now(), _TRIES):
        if stamp in stamps_in_use(directory):
            continue
        claim = directory.claim(marker_name(stamp), run_id)
        if claim is None:
            continue
        if stamp in stamps_in_use(directory, but_marker_of=stamp):
            # A run that had this second ended between the two checks.
            claim.release()
            continue
        return stamp, claim
    raise StorageError(
        f"No free timestamp in {directory.location}: other runs have taken the next {_TRIES}. Find "
        "what starts so many runs."
    )


def remove_leftovers(directory: BackupDirectory) -> list[str]:
    """Remove unfinished files and markers of dead runs and readers; those of live ones stay.

    Files are listed before the markers are checked: so an unfinished file in the list belongs to a
    run whose marker can be seen, or to one that has ended.
    """
    files, timestamps = directory.files(), directory.timestamps
    markers = {name: s for name in directory.names() if (s := stamp_of_marker(name, timestamps))}
    alive = {marker for marker in markers if directory.claim_is_alive(marker)}
    live_stamps = {markers[marker] for marker in alive}
    removed = []
    for file in files:
        stamp = stamp_of_pending(file.name, timestamps)
        is_old = datetime.now(timezone.utc) - file.modified_at > _LONGEST_TURN
        if (stamp and stamp not in live_stamps) or (is_announcement(file.name) and is_old):
            directory.delete(file.name)
            removed.append(file.name)
    for marker in markers.keys() - alive:
        directory.remove_dead_claim(marker)
    remove_dead_readers(directory, [file.name for file in files])
    return removed
