"""The set that an incremental backup builds on, and the reasons not to.

A doubt makes a table full. It is a sentence, which the manifest, the log and the result show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vector_backup_pipeline.engine.catalog.contents import ManifestSet, read_contents
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet, stored_sets
from vector_backup_pipeline.engine.incremental.chain import Link
from vector_backup_pipeline.engine.manifest import Manifest
from vector_backup_pipeline.engine.postgres.changes import read_column_state
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING as SQL_ASCII
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.stored_files import check_identity
from vector_backup_pipeline.engine.table_definition import Definitions, TableDefinition
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline.parameters.durations import Duration

# Transaction IDs can be compared over 2^31 transactions. The margin is for those that begin during
# the backup, and for a base that is far older than any full one should be.
_OLDEST_BASE = 1 << 30


class Doubt(Exception):
    """Why a table must be full, as a sentence."""


def find_base(
    directory: BackupDirectory, pinned: PinnedSnapshot, request: BackupRequest
) -> ManifestSet:
    """The newest set of the database that can be built on; one with all tables of the run if there
    is any.

    Raises:
        Doubt: there is none, or the run can't build on any.
        InvalidParams, IntegrityError: its key files cannot be decrypted; see `check_identity`.
    """
    if request.tables_to_truncate:
        raise Doubt("The run truncates tables.")
    server = pinned.server
    if server.in_recovery:
        raise Doubt("The server is a standby.")
    if server.system_identifier is None:
        raise Doubt("The role may not read the server's system identifier.")
    contents = read_contents(directory)
    source = SourceDatabase.of(server)
    sets = stored_sets(contents)
    usable = [s for s in sets if s.can_be_base and s.state == "complete" and s.source == source]
    with_all = [s for s in usable if all(map(s.files_named, request.tables))]
    for stored in with_all + usable:
        if isinstance(backup := contents.backup_set(stored.stamp), ManifestSet):
            _check_server(backup, pinned)
            if request.mode == "auto":
                _check_age(stored, sets, request.full_every, directory.timestamps)
            keys = next((table.keys for table in backup.manifest.tables if table.keys), None)
            if keys is not None:
                check_identity(directory, keys)
            return backup
    raise Doubt("There is no complete, undamaged set of this database with key files.")


def _check_server(backup: ManifestSet, pinned: PinnedSnapshot) -> None:
    """Raise `Doubt` if transaction IDs since the set may not be those of its history."""
    stamp, manifest, server = backup.stamp, backup.manifest, pinned.server
    if manifest.server.timeline != server.timeline:
        raise Doubt(
            "The server was recovered or promoted since the last set: its timeline has changed."
        )
    if manifest.server.database_oid != server.database_oid:
        raise Doubt("The database was dropped and created again since the last set.")
    if not _sees_all_of(pinned.snapshot, manifest.snapshot):
        raise Doubt(f"The set {stamp} has a later transaction ID than this backup.")
    age = xmin_of(pinned.snapshot) - xmin_of(manifest.snapshot)
    if age > _OLDEST_BASE:
        raise Doubt(f"The set {stamp} is {age} transactions old.")
    if manifest.server.started_at != server.started_at:
        raise Doubt(
            "The server was restarted since the last set, perhaps with an older copy of its disk."
        )


def _check_age(
    stored: StoredSet, sets: Sequence[StoredSet], full_every: str, timestamps: TimestampFormat
) -> None:
    """Raise `Doubt` if the full set of the chain is too old."""
    while stored.builds_on is not None:
        stored = next(s for s in sets if s.stamp == stored.builds_on)
    longest = Duration.parse(full_every)
    if not longest:
        raise Doubt(f"full_every is {longest}, which requires a full set each time.")
    begin = longest.before(timestamps.now(), timestamps.timezone)
    if begin is not None and stored.created_at < begin:
        raise Doubt(f"The last full set {stored.stamp} is older than {full_every}.")


def xmin_of(snapshot: str) -> int:
    """All transactions before this one, a 64-bit number, had ended."""
    return _parsed(snapshot)[0]


def _sees_all_of(snapshot: str, earlier: str) -> bool:
    """Whether each transaction that ended before the snapshot `earlier` also ended before
    `snapshot`. The xmin of both can be the same: while another run took its snapshot and made its
    set, this one may have been looking for a base, and a third transaction may have been open."""
    (_, xmax, active), (_, earlier_xmax, earlier_active) = map(_parsed, (snapshot, earlier))
    return earlier_xmax <= xmax and {xid for xid in active if xid < earlier_xmax} <= earlier_active


def _parsed(snapshot: str) -> tuple[int, int, set[int]]:
    """xmin, xmax, and the transactions between them that were in progress."""
    xmin, xmax, active = snapshot.split(":")
    return int(xmin), int(xmax), {int(xid) for xid in active.split(",") if xid}


def find_table(
    backup: ManifestSet,
    pinned: PinnedSnapshot,
    source: TableSource,
    definitions: Definitions,
    form: str,
) -> Link:
    """The table in the base `backup`. Raises `Doubt` if its rows can't be built on."""
    link = Link.find(backup, source.table.schema, source.table.name)
    if link is None or link.table.keys is None:
        raise Doubt(f"The set {backup.stamp} has no key file of a table of this name.")
    table, manifest, oid = link.table, backup.manifest, source.table.oid
    files = {(relation.oid, relation.relfilenode) for relation in source.relations}
    differences = {
        "was dropped and created again": table.oid != oid,
        "was truncated or rewritten, or its partitions changed": files
        != {(relation.oid, relation.relfilenode) for relation in table.relations},
        "was backed up in another format": link.data.format != form,
        "has other columns or types": _shape(table.definition, table.columns, manifest)
        != _shape(definitions.tables[oid], source.columns, definitions),
    }
    for difference, applies in differences.items():
        if applies:
            raise Doubt(f"Since the set {backup.stamp} the table {difference}.")
    oids = [oid, *(relation.oid for relation in source.relations)]
    with (
        database_errors("read the columns' changes", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        have_changed, show_names = read_column_state(cursor, oids, xmin_of(manifest.snapshot))
    if have_changed:
        raise Doubt(
            f"Since the set {backup.stamp} a column was added, dropped or altered, or a label of "
            "its type renamed."
        )
    if show_names:
        raise Doubt("A column has a type such as regclass, whose values change with names.")
    return link


def _shape(
    definition: TableDefinition | None, columns: Iterable[str], needed: Definitions | Manifest
) -> object:
    """What the text of a row depends on, as far as the manifest has it."""
    if definition is None:
        return None
    dependencies = [d for d in needed.dependencies if d.key in definition.needs]
    return definition.columns, definition.primary_key, [*columns], dependencies


def doubt_about(
    pinned: PinnedSnapshot, source: TableSource, primary_key: Sequence[str]
) -> str | None:
    """Why the table can't have a key file."""
    if not primary_key:
        return "The table has no primary key."
    if pinned.server.encoding == SQL_ASCII:
        return "The encoding of the database is SQL_ASCII."
    if all(relation.by_ranges for relation in source.relations):
        return None
    return (
        "Its blocks cannot be read in ranges: it is not a heap table, is read through its parent, "
        "cannot be planned under an empty search_path, or is on PostgreSQL 13."
    )
