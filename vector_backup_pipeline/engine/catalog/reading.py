"""The marker of a run that reads a set: while it lives, no prune removes that set.

A reader puts its marker down and then looks whether the set is being removed; a prune writes its
tombstone and then looks for readers. So one of them sees the other, whoever was first.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping

from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import (
    reading_name,
    stamp_of_reading,
    tombstone_name,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, Claim
from vector_backup_pipeline.engine.timestamps import TimestampFormat

# Who looks whether a marker is dead holds it for an instant, and may take it from its owner then.
_TRIES = 20


def claim_reading(directory: BackupDirectory, stamp: str, run_id: str) -> Claim | None:
    """Keep the set from being removed until the claim is released; None if this run does already.

    Raises:
        ResourceNotFound: a prune is removing the set.
        StorageError: nothing can be written there.
    """
    owner: dict[str, str | int] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "run_id": run_id,
    }
    claim = _claim(directory, reading_name(stamp, run_id), owner)
    try:
        is_being_removed = tombstone_name(stamp) in directory.names()
    except BaseException:
        _release(claim)
        raise
    if is_being_removed:
        _release(claim)
        raise ResourceNotFound(
            f"The set {stamp} in {directory.location} is being removed by a prune. Name another "
            "one."
        )
    return claim


def _claim(directory: BackupDirectory, name: str, owner: Mapping[str, str | int]) -> Claim | None:
    for _ in range(_TRIES):
        directory.remove_dead_claim(name)
        claim = directory.claim(name, owner)
        if claim is not None or directory.claim_is_alive(name):
            return claim
    raise StorageError(f"The marker {name} in {directory.location} was taken away {_TRIES} times.")


def hold_while_reading(
    directory: BackupDirectory,
    timestamps: TimestampFormat,
    stamp: str,
    run_id: str,
    notices: list[str],
) -> Claim | None:
    """The same, for a run that continues without its claim if nothing can be written there: then a
    notice says so. Removes the markers of dead readers first.

    Raises:
        ResourceNotFound: a prune is removing the set.
    """
    with contextlib.suppress(StorageError):  # They hinder nobody.
        remove_dead_readers(directory, timestamps, directory.names())
    try:
        return claim_reading(directory, stamp, run_id)
    except StorageError as error:
        notices.append(
            f"Nothing keeps a prune from removing {stamp} while it is being read, since no marker "
            f"could be put beside it: {error.message}"
        )
        return None


def remove_dead_readers(
    directory: BackupDirectory, timestamps: TimestampFormat, names: Iterable[str]
) -> None:
    """Remove the markers, among `names`, of readers that died."""
    for name in names:
        if stamp_of_reading(name, timestamps):
            directory.remove_dead_claim(name)


def stamps_being_read(
    directory: BackupDirectory, timestamps: TimestampFormat, names: Iterable[str]
) -> frozenset[str]:
    """The stamps of the sets that a live run reads, by the markers among `names`."""
    markers = {name: stamp for name in names if (stamp := stamp_of_reading(name, timestamps))}
    return frozenset(stamp for name, stamp in markers.items() if directory.claim_is_alive(name))


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()
