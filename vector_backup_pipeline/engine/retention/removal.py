"""Taking a set away so that no half of it ever looks whole."""

from __future__ import annotations

import contextlib
from collections.abc import Container

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.file_names import tombstone_name
from vector_backup_pipeline.engine.results import RemovedSet
from vector_backup_pipeline.engine.retention.history import size_of
from vector_backup_pipeline.engine.retention.tombstone import Tombstone
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


class Removing:
    """A set on its way out, and what of it is gone so far. What is to go is all that its tombstone
    names, but for the files `sparing`."""

    def __init__(
        self, directory: BackupDirectory, tombstone: Tombstone, sparing: Container[str] = ()
    ) -> None:
        self._directory = directory
        self._tombstone = tombstone
        self._names = [name for name in tombstone.names if name not in sparing]
        self._files: list[str] = []
        self._bytes = 0

    @property
    def stamp(self) -> str:
        return self._tombstone.timestamp

    @property
    def files(self) -> list[str]:
        return self._files

    def foretell(self) -> None:
        """Count what would go."""
        for name in self._names:
            self._count(name, size_of(self._directory, name))

    def write_tombstone(self) -> None:
        """From here on the set is none; nothing of it is gone yet."""
        self._directory.replace(tombstone_name(self.stamp), self._tombstone.to_json())

    def take_back_tombstone(self) -> None:
        """Nothing of the set is gone; it is one again."""
        self._directory.delete(tombstone_name(self.stamp))

    def give_up(self) -> None:
        """If all of the set is still there, take the tombstone back; else it stays, for the next
        prune to go on from. Raises nothing: what led here says more."""
        with contextlib.suppress(BackupError):
            if not self._tombstone.has_begun(self._directory.names()):
                self.take_back_tombstone()

    def bury(self) -> None:
        """Remove everything, the manifest first and the tombstone last.

        Raises:
            StorageError: something can't be removed.
        """
        for name in self._names:
            check()
            self._remove(name)
        self._directory.delete(tombstone_name(self.stamp))

    def _remove(self, name: str) -> None:
        size = size_of(self._directory, name)
        self._directory.delete(name)
        self._count(name, size)

    def _count(self, name: str, size: int | None) -> None:
        if size is not None:
            self._files.append(name)
            self._bytes += size

    def tell(self) -> RemovedSet:
        return RemovedSet(
            timestamp=self.stamp,
            reasons=self._tombstone.reasons,
            files=self._files,
            bytes=self._bytes,
        )
