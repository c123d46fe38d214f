"""Comparison of a target table with the backup: row count and content digest."""

from collections.abc import Sequence

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, Content, RowBlock
from vector_backup_pipeline.engine.formats.row_formats import RowFormat
from vector_backup_pipeline.engine.postgres.connection import Connection, database_errors
from vector_backup_pipeline.engine.postgres.ranges import cut_into_ranges
from vector_backup_pipeline.engine.postgres.tables import ResolvedTable, read_sources
from vector_backup_pipeline.engine.range_readers import ReadJob, read_ranges

ROLLED_BACK = "Everything was rolled back, and the target is unchanged."


def content_of(
    streams: Sequence[Connection],
    table: ResolvedTable,
    columns: tuple[str, ...],
    form: RowFormat,
) -> Content:
    """Read `columns` of every row over all `streams`, as an export would, and keep nothing.

    All streams must see the same rows: there is only one, or nobody writes to the table.
    """
    secrets = streams[0].settings.secrets
    with database_errors(f"prove {table.requested}", secrets), streams[0].cursor() as cursor:
        source = read_sources(cursor, [table])[table.oid]
    job = ReadJob(table.requested, columns, cut_into_ranges(source), form, secrets)
    rows, digest = 0, 0
    with read_ranges(streams, job) as readers:
        for item in readers:
            if isinstance(item, RowBlock):
                rows += item.rows
                digest += item.digest
    return Content(rows, digest % DIGEST_MODULUS)


def prove_equal(table: str, actual: Content, expected: Content) -> None:
    """Raise `IntegrityError` unless the target has the manifest's content."""
    if actual.rows != expected.rows:
        raise IntegrityError(
            f"After the load {table} holds {actual.rows} rows of the backup, not {expected.rows}. "
            f"{ROLLED_BACK}"
        )
    if actual.digest != expected.digest:
        raise IntegrityError(
            f"The rows of {table} in the target are not those of the backup: content digest "
            f"{actual.digest:032x}, expected {expected.digest:032x}. {ROLLED_BACK} A trigger, a "
            "column of another type or size, or another version of an extension changes values; "
            "or the manifest was changed."
        )


def prove_count(table: str, loaded: int, kept: int, actual: int, *, replaces: bool) -> None:
    """Raise `IntegrityError` unless a table with `kept` rows now also has the `loaded` ones."""
    most = kept + loaded
    if actual > most or actual < (kept if replaces else most):
        raise IntegrityError(
            f"{loaded} rows were loaded into {table}, which had {kept} and now has {actual}. "
            f"{ROLLED_BACK} A trigger or a rule may have interfered."
        )
