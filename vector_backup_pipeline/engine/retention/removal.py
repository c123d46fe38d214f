"""The removal of a backup set. An interruption never leaves a partial set.

A tombstone that names all files of the set is written first and deleted last; while it exists, the
files are no set. The manifest is removed before all other files.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

from pydantic import Field, ValidationError

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.file_names import tombstone_name
from vector_backup_pipeline.engine.manifest import BareName
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import RemovedSet
from vector_backup_pipeline.engine.storage.directory import BackupDirectory


class Tombstone(Record):
    """`files` are the data files. Orphaned files have no manifest and no verdict."""

    schema_version: Literal[1] = 1
    tool: Literal["vector_backup_pipeline"] = "vector_backup_pipeline"
    tool_version: str = __version__
    timestamp: str
    # Tombstones of earlier versions have none.
    source_database: str | None = None
    written_at: datetime = Field(
        default_factory=lambda: datetime.now(timezone.utc).replace(microsecond=0)
    )
    run_id: str
    reasons: list[str]
    manifest: BareName | None
    verdict: BareName | None
    files: list[BareName]


def read_tombstone(directory: BackupDirectory, stamp: str) -> Tombstone:
    """The tombstone of the set with that timestamp.

    Raises:
        IntegrityError: it can't be parsed, or is that of another set.
        ResourceNotFound, StorageError: it can't be read.
    """
    name = tombstone_name(stamp)
    try:
        tombstone = Tombstone.model_validate_json(b"".join(directory.read(name)))
    except ValidationError as error:
        raise IntegrityError(
            f"The tombstone {name} in {directory.location} is damaged or was written by another "
            "version of this tool, so it is unknown which files were being removed. Check the "
            "files with its timestamp, and delete it by hand."
        ) from error
    if tombstone.timestamp != stamp:
        raise IntegrityError(
            f"The tombstone {name} in {directory.location} was renamed or copied: it is that of "
            f"{tombstone.timestamp}. Nothing was removed because of it; delete it by hand."
        )
    return tombstone


@dataclass
class Removal:
    """The removal of all files that a tombstone names. `removed` are those that have been removed,
    or in a dry run those that would be, with their sizes in bytes."""

    directory: BackupDirectory
    tombstone: Tombstone
    removed: dict[str, int] = field(default_factory=dict)

    @property
    def _tombstone_name(self) -> str:
        return tombstone_name(self.tombstone.timestamp)

    def write_tombstone(self) -> None:
        data = self.tombstone.model_dump_json(indent=1).encode() + b"\n"
        self.directory.replace(self._tombstone_name, data)

    def take_back_tombstone(self) -> None:
        """Delete the tombstone if the manifest still exists, so that the files are a set again."""
        if self.tombstone.manifest in self.directory.names():
            self.directory.delete(self._tombstone_name)

    def remove_files(self, *, dry_run: bool, spared: Container[str] = ()) -> None:
        """Remove the files, except the `spared` ones, and then the tombstone.

        Raises:
            RunCancelled: the run was canceled; the next prune finishes the removal.
            StorageError: a file can't be removed.
        """
        tombstone = self.tombstone
        for name in (tombstone.manifest, tombstone.verdict, *tombstone.files):
            if name is None or name in spared:
                continue
            check()
            try:
                size = self.directory.stat(name).size
            except ResourceNotFound:
                continue
            if not dry_run:
                self.directory.delete(name)
            self.removed[name] = size
        if not dry_run:
            self.directory.delete(self._tombstone_name)

    def report(self) -> RemovedSet:
        return RemovedSet(
            timestamp=self.tombstone.timestamp,
            source_database=self.tombstone.source_database,
            reasons=self.tombstone.reasons,
            files=list(self.removed),
            bytes=sum(self.removed.values()),
        )
