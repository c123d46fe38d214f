"""Putting a run's manifest together from what the snapshot showed and the exports stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic_core import PydanticSerializationError

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.backup.export import StoredTable
from vector_backup_pipeline.engine.backup.notices import Notice, read_notices
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams
from vector_backup_pipeline.engine.manifest import (
    Block,
    DataFile,
    Digest,
    Manifest,
    Relation,
    Server,
    TableBackup,
    TruncateState,
)
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.definitions import read_definitions
from vector_backup_pipeline.engine.postgres.server import ServerIdentity
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline.parameters.backup import BackupRequest


@dataclass(frozen=True)
class SnapshotRecord:
    """What the manifest keeps of the snapshot, read while it was open. Tables by caller's name."""

    server: ServerIdentity
    snapshot: str
    tables: Mapping[str, TableSource]
    definitions: Definitions


def read_record(pinned: PinnedSnapshot) -> tuple[SnapshotRecord, list[Notice]]:
    """Read what the manifest keeps, and what a person should know of the tables."""
    oids = [source.table.oid for source in pinned.tables.values()]
    with (
        database_errors("read the tables' definitions", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        definitions = read_definitions(cursor, oids)
        _leave_out_unstorable(pinned, definitions)
        notices = read_notices(cursor, pinned.tables.values(), definitions)
    record = SnapshotRecord(
        server=pinned.server,
        snapshot=pinned.snapshot,
        tables=dict(pinned.tables),
        definitions=definitions,
    )
    return record, notices


def _leave_out_unstorable(pinned: PinnedSnapshot, definitions: Definitions) -> None:
    """Fail the tables whose definitions a manifest can't hold: it is UTF-8, and in a SQL_ASCII
    database a name, default or comment may be other bytes."""
    if pinned.server.encoding != ENCODING:
        return
    shared_is_storable = _is_storable(definitions.dependencies)
    for name, source in list(pinned.tables.items()):
        if not (shared_is_storable and _is_storable(definitions.tables[source.table.oid])):
            del pinned.tables[name]
            pinned.failures[name] = InvalidParams(
                f"{name} can't be backed up: a name, default, comment or type in its definition "
                "holds bytes that are not UTF-8. Change it, with ALTER or COMMENT."
            )


def _is_storable(record: Record) -> bool:
    try:
        record.model_dump_json()
    except PydanticSerializationError:
        return False
    return True


def build_manifest(
    request: BackupRequest,
    record: SnapshotRecord,
    stored: Mapping[str, StoredTable],
    failures: Mapping[str, BackupError],
    result: BackupResult,
    *,
    stamp: str,
    run_id: str,
    created_at: datetime,
    truncate: TruncateState,
) -> Manifest:
    """`stored` and `failures` by the caller's names; `created_at` in UTC orders the sets."""
    return Manifest(
        tool_version=__version__,
        complete=all(name in stored for name in request.tables),
        timestamp=stamp,
        created_at=created_at,
        task_id=request.task_id,
        run_id=run_id,
        export_method=request.export_method,
        workers=request.workers,
        server=_server(record.server),
        snapshot=record.snapshot,
        tables=[
            _table(source, stored.get(name), failures.get(name), record)
            for name, source in record.tables.items()
        ],
        dependencies=record.definitions.dependencies,
        truncate=truncate,
        truncated_tables=list(request.tables_to_truncate),
        result=result,
    )


def _server(server: ServerIdentity) -> Server:
    return Server(
        version=server.version,
        version_num=server.version_num,
        encoding=server.encoding,
        database=server.database,
        system_identifier=server.system_identifier,
        timeline=server.timeline,
        in_recovery=server.in_recovery,
        pgvector_version=server.pgvector_version,
    )


def _table(
    source: TableSource,
    stored: StoredTable | None,
    failure: BackupError | None,
    record: SnapshotRecord,
) -> TableBackup:
    return TableBackup(
        table=source.table.requested,
        schema_name=source.table.schema,
        name=source.table.name,
        oid=source.table.oid,
        relations=[
            Relation(
                schema_name=relation.schema,
                name=relation.name,
                oid=relation.oid,
                relfilenode=relation.relfilenode,
                size=relation.size,
            )
            for relation in source.relations
        ],
        columns=list(source.columns),
        file=_data_file(source, stored) if stored else None,
        error=f"{failure.error_type}: {failure.message}" if failure else None,
        definition=record.definitions.tables[source.table.oid],
    )


def _data_file(source: TableSource, stored: StoredTable) -> DataFile:
    return DataFile(
        name=stored.name,
        format=stored.form.format,
        compression=stored.form.compression,
        rows=stored.rows,
        bytes=stored.size,
        sha256=stored.sha256,
        digest=Digest(
            encoding=stored.form.format,
            columns=list(source.columns),
            value=f"{stored.digest:032x}",
        ),
        duration=round(stored.duration, 3),
        blocks=[Block(**entry._asdict()) for entry in stored.index],
    )
