"""The backup sets of a directory, and which of its files belong to none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeAlias

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.file_names import (
    PENDING_SUFFIX,
    data_file_name,
    is_marker_of,
    stamp_of_data_file,
    stamp_of_manifest,
    stamp_of_marker,
    stamp_of_tombstone,
    stamp_of_verdict,
)
from vector_backup_pipeline.engine.manifest import Manifest, TableBackup, read_manifest
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.table_names import parse_table_name

COLLECTION_TABLE, EMBEDDING_TABLE = "langchain_pg_collection", "langchain_pg_embedding"

# Clocks of several machines differ; the older system's may have been in another zone's summer.
_CLOCKS_DIFFER_BY = timedelta(hours=1)
_SHOWN = 5
# The older system backed up these two tables, and no others.
_OLDER_TABLES = COLLECTION_TABLE, EMBEDDING_TABLE
_EMPTIED = {"done", "pending", "unknown"}


@dataclass(frozen=True)
class ManifestSet:
    """A set with a manifest. `created_at` in UTC."""

    stamp: str
    manifest: Manifest
    created_at: datetime

    @property
    def complete(self) -> bool:
        return self.manifest.complete

    @property
    def source(self) -> SourceDatabase:
        return SourceDatabase(self.manifest.server.system_identifier, self.manifest.server.database)

    @property
    def truncated(self) -> list[str]:
        """The tables that its run truncated, or may have."""
        return self.manifest.truncated_tables if self.manifest.truncate in _EMPTIED else []

    @property
    def emptied(self) -> list[TableBackup]:
        """The tables with rows in this set that its run then truncated, or may have."""
        truncated = self.truncated
        return [
            table
            for table in self.manifest.tables
            if table.table in truncated and table.file and table.file.rows
        ]


@dataclass(frozen=True)
class DamagedSet:
    """A set whose manifest can't be read, for the reason in `error`. `created_at` is the time of
    its stamp, in UTC."""

    stamp: str
    error: IntegrityError
    created_at: datetime

    @property
    def complete(self) -> bool:
        return False


# Of every kind of file by which a stamp is taken.
STAMPS_OF = (
    stamp_of_manifest,
    stamp_of_verdict,
    stamp_of_tombstone,
    stamp_of_marker,
    stamp_of_data_file,
)

BackupSet: TypeAlias = ManifestSet | DamagedSet
FileState = Literal["running", "removed", "adoptable", "orphan"]


@dataclass(frozen=True)
class Contents:
    """The files of a directory, by their stamps. `sizes` are of all files, in bytes.

    `data_files` are finished data files, whether a set names them or not; `unfinished` are still
    being written. `alive` are the stamps of live runs, `dead` those of dead runs whose marker is
    still there. `tombstones` belong to sets that are being removed: such a set's manifest is not
    among the `manifests`.
    """

    directory: BackupDirectory
    timestamps: TimestampFormat
    sizes: Mapping[str, int]
    manifests: Mapping[str, str]
    data_files: Mapping[str, tuple[str, ...]]
    unfinished: Mapping[str, tuple[str, ...]]
    alive: frozenset[str]
    dead: frozenset[str]
    tombstones: Mapping[str, str]

    @property
    def names(self) -> Set[str]:
        return self.sizes.keys()

    def backup_set(self, stamp: str) -> BackupSet | None:
        """The set of that stamp; None if there is none.

        Raises:
            StorageError: its manifest can't be read.
        """
        if stamp not in self.manifests:
            return None
        try:
            manifest = self._manifest(stamp)
        except IntegrityError as error:
            return DamagedSet(stamp, error, self.timestamps.moment(stamp))
        except ResourceNotFound:
            return None
        created = manifest.created_at
        if created.tzinfo is None:
            created = created.replace(tzinfo=timezone.utc)
        return ManifestSet(stamp, manifest, created.astimezone(timezone.utc))

    def sets(self) -> Iterator[BackupSet]:
        """All sets, one after the other: a manifest may be many MB."""
        for stamp in sorted(self.manifests):
            found = self.backup_set(stamp)
            if found is not None:
                yield found

    def state_without_manifest(self, stamp: str) -> FileState:
        """The state of the files of that stamp that belong to no set."""
        if stamp in self.tombstones:
            return "removed"
        if stamp in self.alive:
            return "running"
        return "adoptable" if self.adoptable_pair(stamp) else "orphan"

    def adoptable_pair(self, stamp: str) -> Mapping[str, str] | None:
        """The names of the older system's two files of that stamp, by table; None if there is no
        such pair, or if another file shows that a run of this tool wrote it.

        Nothing else tells them apart: file transfers change line ends, and the contents are not
        read here.
        """
        known = (self.manifests, self.tombstones, self.alive, self.dead, self.unfinished)
        if any(stamp in stamps for stamps in known):
            return None
        pair = {t: data_file_name("public", t, stamp, "csv") for t in _OLDER_TABLES}
        return pair if set(pair.values()) <= set(self.data_files.get(stamp, ())) else None

    def _manifest(self, stamp: str) -> Manifest:
        name = self.manifests[stamp]
        manifest = read_manifest(
            b"".join(self.directory.read(name)), name, self.directory.manifest_key
        )
        if manifest.timestamp != stamp:
            # A copy would claim the files of the set that it is a copy of.
            raise IntegrityError(
                f"The manifest {name} was renamed or copied: it is of the set "
                f"{manifest.timestamp}. Give it its own name again, or remove it."
            )
        return manifest


def look_into(directory: BackupDirectory, timestamps: TimestampFormat) -> Contents:
    """List a directory in which runs may begin and end meanwhile.

    Data files first, markers next, manifests last: so a file in the list belongs to a run that was
    seen alive, to a set whose manifest was seen, or to a run that is dead. Tombstones at both ends:
    one is there before anything of its set goes, and until all of it is gone.
    """
    first, second = directory.names(), directory.names()
    markers = {name: s for name in second if (s := stamp_of_marker(name, timestamps))}
    alive = {stamp for name, stamp in markers.items() if directory.claim_is_alive(name)}
    dead = set(markers.values()) - alive
    last = directory.sizes()
    tombstones = {
        s: name for name in (*first, *last) if (s := stamp_of_tombstone(name, timestamps))
    }
    manifests = {s: name for name in last if (s := stamp_of_manifest(name, timestamps))}
    return Contents(
        directory,
        timestamps,
        sizes=last,
        manifests={s: name for s, name in manifests.items() if s not in tombstones},
        data_files=_by_stamp(first, timestamps, ending=""),
        unfinished=_by_stamp(first, timestamps, ending=PENDING_SUFFIX),
        alive=frozenset(alive),
        dead=frozenset(dead),
        tombstones=tombstones,
    )


def age(backup: BackupSet) -> tuple[datetime, str]:
    """What sets are ordered by: the later, the greater."""
    return backup.created_at, backup.stamp


def is_of_the_future(moment: datetime, now: datetime) -> bool:
    """Whether a set's creation lies in the future: some clock was wrong."""
    return moment > now + _CLOCKS_DIFFER_BY


def what_is_there(contents: Contents) -> str:
    """For messages: the newest sets, and the command for the older system's files."""
    # Not the sets themselves, whose manifests may be many MB each.
    stamps = [stamp for _, stamp in sorted((age(each) for each in contents.sets()), reverse=True)]
    adopt = ""
    if any(contents.adoptable_pair(stamp) for stamp in contents.data_files):
        adopt = " vector-backup adopt --all makes sets of the older system's files there."
    if not stamps:
        return f"There is no other set; check task_id or backup_path.{adopt}"
    more = ", …" if len(stamps) > _SHOWN else ""
    return f"Existing sets, newest first: {', '.join(stamps[:_SHOWN])}{more}.{adopt}"


def has_file(backup: ManifestSet, text: str) -> bool:
    """Whether the set has the file of the table that `text` names."""
    return any(table.file is not None for table in backup.manifest.tables if is_named(text, table))


def tables_with_file(backup: ManifestSet) -> list[str]:
    return [table.table for table in backup.manifest.tables if table.file is not None]


def is_named(text: str, table: TableBackup) -> bool:
    """Whether `text` means that table: as the backup's caller spelled it, or by its own name."""
    return parse_table_name(text) == parse_table_name(table.table) or names_table(
        text, table.schema_name, table.name
    )


def names_table(text: str, schema: str, name: str) -> bool:
    wanted = parse_table_name(text)
    return wanted.name == name and wanted.schema in (None, schema)


def has_backup(directory: BackupDirectory, timestamps: TimestampFormat) -> bool:
    """Whether a manifest there says that its set is complete. Files without a manifest and sets
    whose manifest is damaged don't count."""
    contents = look_into(directory, timestamps)
    return any(_says_complete(directory, name) for name in contents.manifests.values())


def stamps_in_use(
    directory: BackupDirectory, timestamps: TimestampFormat, *, but_marker_of: str | None = None
) -> set[str]:
    """Every stamp that some file there has already, finished or not; markers of the stamp
    `but_marker_of` aside."""
    stamps = set()
    for name in directory.names():
        if but_marker_of is not None and is_marker_of(name, but_marker_of):
            continue
        final = name.removesuffix(PENDING_SUFFIX)
        for stamp_of in STAMPS_OF:
            if stamp := stamp_of(final, timestamps):
                stamps.add(stamp)
    return stamps


def _says_complete(directory: BackupDirectory, manifest: str) -> bool:
    try:
        data = b"".join(directory.read(manifest))
        return read_manifest(data, manifest, directory.manifest_key).complete
    except (IntegrityError, ResourceNotFound):
        return False


def _by_stamp(
    names: Iterable[str], timestamps: TimestampFormat, *, ending: str
) -> dict[str, tuple[str, ...]]:
    """Data files whose names have that ending after their own."""
    files: dict[str, list[str]] = defaultdict(list)
    for name in names:
        stamp = stamp_of_data_file(name.removesuffix(ending), timestamps)
        if stamp is not None and name.endswith(ending):
            files[stamp].append(name)
    return {stamp: tuple(each) for stamp, each in files.items()}
