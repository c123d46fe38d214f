"""The manifest of a run, from its snapshot, the definitions and the exported files."""

from collections.abc import Mapping
from datetime import datetime

from pydantic_core import PydanticSerializationError

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.backup.notices import Notice, read_notices
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams
from vector_backup_pipeline.engine.manifest import Manifest, Server, TableBackup, TruncateState
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.definitions import read_definitions
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline.engine.table_export import table_entry
from vector_backup_pipeline.parameters.backup import BackupRequest


def read_tables(pinned: PinnedSnapshot) -> tuple[Definitions, list[Notice]]:
    """The definitions of the snapshot's tables, and notices about them. A table whose definition a
    manifest can't hold becomes a failure."""
    oids = [source.table.oid for source in pinned.tables.values()]
    with (
        database_errors("read the tables' definitions", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        definitions = read_definitions(cursor, oids)
        _leave_out_unstorable(pinned, definitions)
        notices: list[Notice] = []
        for source in pinned.tables.values():
            notices += read_notices(cursor, source, definitions.tables[source.table.oid])
        return definitions, notices


def _leave_out_unstorable(pinned: PinnedSnapshot, definitions: Definitions) -> None:
    """Fail the tables whose definitions a manifest can't hold: it is UTF-8, and in a SQL_ASCII
    database a name, default or comment may be other bytes."""
    if pinned.server.encoding != ENCODING:
        return
    shared_is_storable = all(map(_is_storable, definitions.dependencies))
    for name, source in list(pinned.tables.items()):
        if not (shared_is_storable and _is_storable(definitions.tables[source.table.oid])):
            del pinned.tables[name]
            pinned.failures[name] = InvalidParams(
                f"{name} cannot be backed up: a name, default, comment or type in its definition "
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
    pinned: PinnedSnapshot,
    definitions: Definitions,
    stored: Mapping[str, TableBackup],
    failures: Mapping[str, BackupError],
    result: BackupResult,
    *,
    stamp: str,
    run_id: str,
    created_at: datetime,
    truncate: TruncateState,
    can_be_base: bool,
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
        server=Server(**{name: getattr(pinned.server, name) for name in Server.model_fields}),
        snapshot=pinned.snapshot,
        tables=[
            stored.get(name) or table_entry(source, definitions, error=_text(failures.get(name)))
            for name, source in pinned.tables.items()
        ],
        dependencies=definitions.dependencies,
        truncate=truncate,
        truncated_tables=list(request.tables_to_truncate),
        result=result,
        builds_on=next((table.builds_on for table in stored.values() if table.builds_on), None),
        can_be_base=can_be_base,
    )


def _text(failure: BackupError | None) -> str | None:
    return f"{failure.error_type}: {failure.message}" if failure else None
