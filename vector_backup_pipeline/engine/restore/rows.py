"""How a table's rows get from its file into the server: as they are, chosen, or made anew."""

from __future__ import annotations

from collections.abc import Callable

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import Identifier

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.older_system import (
    as_csv_records,
    check_file,
    read_rows,
)
from vector_backup_pipeline.engine.postgres.copy_in import (
    RowStream,
    copy_rows,
    skip_or_replace,
)
from vector_backup_pipeline.engine.restore.load import (
    BlockSource,
    HashedSource,
    Loading,
    RecordSource,
    RowSource,
)
from vector_backup_pipeline.engine.restore.plan import PlannedTable
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.parameters.restore import RestoreParameters

Write = Callable[[Cursor, RowStream], int]


def check_rows_of(directory: BackupDirectory, table: PlannedTable) -> None:
    """Read a file of the older system whole, before anything is locked: which of its columns are
    JSON, only the target tells.

    Raises:
        IntegrityError: names the rows that can't be read, by line.
    """
    if not table.stored.data.has_digest:
        check_file(directory, table.stored.file, _json_columns(table))


def loading_of(
    directory: BackupDirectory,
    table: PlannedTable,
    request: RestoreParameters,
    place: tuple[str, str],
    secrets: tuple[str, ...],
) -> Loading:
    """How `table` is loaded into `place`."""
    source, most_streams = _source(directory, table, request)
    return Loading(
        table=table.table,
        size=table.stored.size,
        source=source,
        form=table.stored.form.name,
        most_streams=most_streams,
        write=_write(table, request, Identifier(*place)),
        secrets=secrets,
    )


def _source(
    directory: BackupDirectory, table: PlannedTable, request: RestoreParameters
) -> tuple[RowSource, int]:
    """Where the rows come from, and over how many connections they can go."""
    data = table.stored.data
    if not data.has_digest:
        rows = read_rows(directory, table.stored.file)
        records = as_csv_records(rows, table.columns, _json_columns(table), _not_null(table))
        return RecordSource(records), 1
    if not request.loads_every_row_as_it_is:
        return HashedSource(directory, data), 1
    return BlockSource(directory, data), max(1, len(data.blocks))


def _write(table: PlannedTable, request: RestoreParameters, target: Identifier) -> Write:
    if request.on_conflict == "fail" or table.existing is None:  # In a new one nothing collides.
        return lambda cursor, rows: copy_rows(cursor, target, table.columns, rows, table.where)
    key = table.key()
    if key is None:
        raise BackupError(f"{table.table} has no key to tell its rows apart by.")  # The plan's own.
    return lambda cursor, rows: skip_or_replace(
        cursor,
        target,
        table.columns,
        key,
        rows,
        table.where,
        replaces=request.on_conflict == "replace",
    )


def _json_columns(table: PlannedTable) -> set[str]:
    columns = table.existing.columns if table.existing else ()
    return {column.name for column in columns if column.is_json}


def _not_null(table: PlannedTable) -> set[str]:
    columns = table.existing.columns if table.existing else ()
    return {column.name for column in columns if column.not_null}
