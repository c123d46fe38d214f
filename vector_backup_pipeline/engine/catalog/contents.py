"""The files of one backup directory, and the backup sets that they form.

A backup set exists when its manifest does. All files of a set share its timestamp.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from vector_backup_pipeline.engine import file_names
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.encryption import ENCRYPTED_SUFFIX
from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.manifest import Manifest, read_manifest
from vector_backup_pipeline.engine.results import FileState
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat

COLLECTION_TABLE, EMBEDDING_TABLE = "langchain_pg_collection", "langchain_pg_embedding"

# The clocks of several machines may differ by this much.
_CLOCK_TOLERANCE = timedelta(hours=1)
_STAMP_OF = (
    file_names.stamp_of_manifest,
    file_names.stamp_of_verdict,
    file_names.stamp_of_tombstone,
    file_names.stamp_of_marker,
    file_names.stamp_of_data_file,
)


@dataclass(frozen=True)
class ManifestSet:
    """A backup set with its manifest. `created_at` is in UTC."""

    stamp: str
    manifest: Manifest
    created_at: datetime

    @property
    def source(self) -> SourceDatabase:
        return SourceDatabase.of(self.manifest.server)


@dataclass(frozen=True)
class DamagedSet:
    """A backup set whose manifest can't be read, with the reason in `error`. `created_at` is the
    time of its timestamp, in UTC.

    `mentions` are the timestamps of other sets in the text of the manifest: it may be one of a
    later version, whose set builds on them.
    """

    stamp: str
    error: IntegrityError
    created_at: datetime
    mentions: frozenset[str]


BackupSet: TypeAlias = ManifestSet | DamagedSet


@dataclass(frozen=True)
class Contents:
    """The files of a directory at one moment, by timestamp.

    `sizes` has every file, in bytes. `data_files` includes unfinished ones (`.tmp`). `runs` tells
    of each run marker whether its run is alive. `tombstones` are of sets that are being removed;
    `manifests` are those of all other sets.
    """

    directory: BackupDirectory
    sizes: Mapping[str, int]
    data_files: Mapping[str, tuple[str, ...]]
    runs: Mapping[str, bool]
    tombstones: frozenset[str]
    manifests: frozenset[str]

    def sets(self) -> Iterator[BackupSet]:
        """All backup sets, read one at a time: a manifest may have many MB."""
        for stamp in sorted(self.manifests):
            if (backup := self.backup_set(stamp)) is not None:
                yield backup

    def backup_set(self, stamp: str) -> BackupSet | None:
        """The backup set with that timestamp, None if there is none."""
        if stamp not in self.manifests:
            return None
        name = file_names.manifest_name(stamp)
        try:
            data = b"".join(self.directory.read(name))
        except ResourceNotFound:
            return None  # Removed since the directory was listed.
        try:
            manifest = read_manifest(data, name, self.directory.manifest_key)
            if manifest.timestamp != stamp:
                # A copy would claim the files of the set that it was copied from.
                raise IntegrityError(
                    f"The manifest {name} was renamed or copied: it is that of the set "
                    f"{manifest.timestamp}. Rename it back, or remove it."
                )
        except IntegrityError as error:
            others = {*self.manifests, *self.data_files} - {stamp}
            mentions = frozenset(other for other in others if other.encode() in data)
            return DamagedSet(stamp, error, self.directory.timestamps.moment(stamp), mentions)
        created = manifest.created_at
        if created.tzinfo is None:
            created = created.replace(tzinfo=timezone.utc)
        return ManifestSet(stamp, manifest, created.astimezone(timezone.utc))

    def state_without_set(self, stamp: str) -> FileState:
        """The state of that timestamp's files that belong to no backup set."""
        if stamp in self.tombstones:
            return "removed"
        if self.runs.get(stamp):
            return "running"
        return "adoptable" if self.adoptable_pair(stamp) else "orphan"

    def adoptable_pair(self, stamp: str) -> Mapping[str, str] | None:
        """The names of the older system's two files, by table; None if there is no such pair, or
        if another file shows that a run of this tool wrote it."""
        files = self.data_files.get(stamp, ())
        if stamp in {*self.manifests, *self.tombstones, *self.runs}:
            return None
        suffixes = file_names.PENDING_SUFFIX, file_names.KEYS_EXTENSION, ENCRYPTED_SUFFIX
        if any(name.endswith(suffixes) for name in files):
            return None
        # The older system backed up these two tables, and no others.
        tables = COLLECTION_TABLE, EMBEDDING_TABLE
        pair = {table: file_names.data_file_name("public", table, stamp, "csv") for table in tables}
        return pair if set(pair.values()) <= set(files) else None


def read_contents(directory: BackupDirectory) -> Contents:
    """List a directory while other runs may begin and end.

    The directory is listed three times: data files are taken from the first list, markers from the
    second, manifests from the third. So a data file without a live run and without a manifest is
    that of a dead run. A tombstone exists before and after anything else of its set is removed,
    so those of the first and the last list count.
    """
    timestamps = directory.timestamps
    first, second = directory.names(), directory.names()
    markers = {name: s for name in second if (s := file_names.stamp_of_marker(name, timestamps))}
    runs = {stamp: directory.claim_is_alive(name) for name, stamp in markers.items()}
    sizes = {file.name: file.size for file in directory.files()}
    data_files: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for name in first:
        stamp = file_names.stamp_of_data_file(
            name.removesuffix(file_names.PENDING_SUFFIX), timestamps
        )
        if stamp and name in sizes:
            data_files[stamp] += (name,)
    tombstones = {
        s for name in (*first, *sizes) if (s := file_names.stamp_of_tombstone(name, timestamps))
    }
    manifests = {s for name in sizes if (s := file_names.stamp_of_manifest(name, timestamps))}
    return Contents(
        directory,
        sizes,
        dict(data_files),
        runs,
        frozenset(tombstones),
        frozenset(manifests - tombstones),
    )


def is_in_future(moment: datetime, now: datetime) -> bool:
    """Whether a set was created in the future, so that some clock was wrong."""
    return moment > now + _CLOCK_TOLERANCE


def future_notices(label: str, created_at: datetime, now: datetime) -> Iterator[str]:
    if is_in_future(created_at, now):
        yield (
            f"The latest set {label} was created in the future according to this machine's clock "
            f"({created_at:%Y-%m-%d %H:%M} UTC): a clock was or is wrong. Sets made since then may "
            "be newer. Check the list, and give the timestamp of the set you mean."
        )


def has_backup(directory: BackupDirectory) -> bool:
    """Whether the directory has a complete backup set, according to its manifest."""
    sets = read_contents(directory).sets()
    return any(isinstance(backup, ManifestSet) and backup.manifest.complete for backup in sets)


def stamp_of_file(name: str, timestamps: TimestampFormat) -> str | None:
    """The timestamp of any file that a run writes, finished or not; None for other files."""
    final = name.removesuffix(file_names.PENDING_SUFFIX)
    return next((stamp for stamp_of in _STAMP_OF if (stamp := stamp_of(final, timestamps))), None)
