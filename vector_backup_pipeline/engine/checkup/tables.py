"""The tables: are they there, can they be read whole, could they be truncated?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.backup.notices import read_notices
from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed_with,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.errors import BackupError, LockTimeout, TableNotFound
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.definitions import read_definitions
from vector_backup_pipeline.engine.postgres.privileges import (
    missing_grants,
    references_from_elsewhere,
    similar_tables,
)
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.postgres.trial import (
    copy_sample,
    fetch_sample,
    undone_on_failure,
)
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.parameters.table_names import parse_table_name

_SAMPLE_ROWS = 200
# CSV against stored bytes, where no rows are counted: 60,000 rows of 1,536 dimensions made 2.8
# times their size.
_CSV_EXPANSION = 3


@dataclass(frozen=True)
class TableAdvice:
    """By the caller's names: statements that grant what is missing for reading and for truncating,
    and tables of like name."""

    reading: Mapping[str, Sequence[str]]
    truncating: Mapping[str, Sequence[str]]
    similar: Mapping[str, Sequence[str]]

    def mending(self, table: str, error: BackupError) -> str | None:
        if isinstance(error, TableNotFound):
            names = self.similar.get(table, ())
            return f"There is {', '.join(names)}: name it so, with its schema." if names else None
        return _to_run(self.reading.get(table, ()))

    def mending_truncate(self, table: str) -> str | None:
        return _to_run(self.truncating.get(table, ()))


def _to_run(statements: Sequence[str]) -> str | None:
    return f"Run: {' '.join(statements)}" if statements else None


@dataclass(frozen=True)
class TablesReport:
    """`expected_size` in bytes as CSV, an estimate; None if no table could be read."""

    findings: list[Finding]
    expected_size: int | None


def read_advice(
    cursor: Cursor, tables: Sequence[str], truncate_tables: Sequence[str]
) -> TableAdvice:
    """Ask while the connection still has its own search path."""
    emptied = tables_among(tables, truncate_tables)
    return TableAdvice(
        reading={t: missing_grants(cursor, parse_table_name(t), ("SELECT",)) for t in tables},
        truncating={t: missing_grants(cursor, parse_table_name(t), ("TRUNCATE",)) for t in emptied},
        similar={t: similar_tables(cursor, t) for t in tables},
    )


def tables_among(tables: Sequence[str], truncate_tables: Sequence[str]) -> list[str]:
    """Those of `tables` that are truncate tables, as a run compares them."""
    wanted = {parse_table_name(table) for table in truncate_tables}
    return [table for table in tables if parse_table_name(table) in wanted]


def check_tables(plan: CheckPlan, pinned: PinnedSnapshot, advice: TableAdvice) -> TablesReport:
    """Each table by itself, inside the snapshot."""
    if plan.tables is None:
        return TablesReport([skipped("tables", "tables", "VECTOR_BACKUP_TABLES is wrong")], None)
    findings, sizes = [], []
    for table in plan.tables:
        finding, size = _check_table(plan, table, pinned, advice)
        findings.append(finding)
        sizes += [] if size is None else [size]
    findings += _truncate_findings(plan, plan.tables, pinned, advice)
    findings += _definition_findings(pinned)
    return TablesReport(findings, sum(sizes) if sizes else None)


def _check_table(
    plan: CheckPlan, table: str, pinned: PinnedSnapshot, advice: TableAdvice
) -> tuple[Finding, int | None]:
    failure = pinned.failures.get(table)
    if failure is not None:
        return _failure(table, failure, advice), None
    source = pinned.tables[table]
    by_copy = plan.export_method == "copy"
    try:
        size = _size_by_copy(pinned, source) if by_copy else _size_by_cursor(pinned, source)
    except BackupError as error:
        instead = _advice_without_copy(pinned, source) if by_copy else None
        return failed_with("tables", table, error, instead), None
    rows = source.estimated_rows
    counted = "rows not counted yet" if rows is None else f"about {rows} rows"
    told = (
        f"can be read: {counted}, {readable_size(source.size)} in the database, about "
        f"{readable_size(size)} as CSV"
    )
    return ok("tables", table, told), size


def _failure(table: str, error: BackupError, advice: TableAdvice) -> Finding:
    if isinstance(error, LockTimeout):
        # It says something about this minute, and nothing about the night.
        return failed_with("tables", table, error, fatal=False)
    return failed_with("tables", table, error, advice.mending(table, error))


def _size_by_copy(pinned: PinnedSnapshot, source: TableSource) -> int:
    """Bytes as CSV: the sample's for each row that the planner counts, else by what is stored."""
    if not source.plannable:
        # A sample is a query; the plain COPY that a backup uses would read the whole table.
        return source.size * _CSV_EXPANSION
    sample = copy_sample(pinned.coordinator, source, _SAMPLE_ROWS, pinned.settings.secrets)
    if sample.is_whole:
        return sample.size
    if source.estimated_rows and sample.rows:
        return sample.size * source.estimated_rows // sample.rows
    return max(sample.size, source.size * _CSV_EXPANSION)


def _size_by_cursor(pinned: PinnedSnapshot, source: TableSource) -> int:
    fetch_sample(pinned.coordinator, source, _SAMPLE_ROWS, pinned.settings.secrets)
    return source.size * _CSV_EXPANSION


def _advice_without_copy(pinned: PinnedSnapshot, source: TableSource) -> str | None:
    try:
        _size_by_cursor(pinned, source)
    except BackupError:
        return None
    return "A cursor can read it: run the backup with export_method cursor."


def _truncate_findings(
    plan: CheckPlan, tables: Sequence[str], pinned: PinnedSnapshot, advice: TableAdvice
) -> Iterator[Finding]:
    emptied = tables_among(tables, plan.truncate_tables)
    exported = {parse_table_name(table) for table in tables}
    for table in plan.truncate_tables:
        if parse_table_name(table) not in exported:
            yield warning(
                "tables",
                f"truncate {table}",
                f"{table} is to be truncated but is not among the tables of a backup, so a run "
                "with truncate is refused",
                "Add it to VECTOR_BACKUP_TABLES, or take it out of VECTOR_BACKUP_TRUNCATE_TABLES.",
            )
    for table in emptied:
        yield _truncate_finding(table, emptied, pinned, advice)


def _truncate_finding(
    table: str, emptied: Sequence[str], pinned: PinnedSnapshot, advice: TableAdvice
) -> Finding:
    name = f"truncate {table}"
    source = pinned.tables.get(table)
    if source is None:
        return skipped(
            "tables", name, "the table can't be backed up", advice.mending_truncate(table)
        )
    refusal = source.found.truncate_refusal
    if refusal is not None:
        statements = advice.mending_truncate(table)
        return failed_with("tables", name, refusal, statements, fatal=False)
    referring = _referring(pinned, source, emptied)
    if referring:
        return warning(
            "tables",
            name,
            f"{table} can be backed up but not truncated: {', '.join(referring)} refers to it",
            "Drop those foreign keys, or back up and truncate the tables together: "
            "VECTOR_BACKUP_TRUNCATE_TABLES.",
        )
    return ok("tables", name, "could be truncated by a run that asks for it")


def _referring(pinned: PinnedSnapshot, source: TableSource, emptied: Sequence[str]) -> list[str]:
    together = [pinned.tables[table].found.oid for table in emptied if table in pinned.tables]
    with (
        database_errors("look for foreign keys", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        found = references_from_elsewhere(cursor, source.found.oid, together)
    return [f"{constraint} of {table}" for table, constraint in found]


def _definition_findings(pinned: PinnedSnapshot) -> Iterator[Finding]:
    """What recreates the tables is read once more, since a run that can't read it has no
    manifest."""
    oids = [source.found.oid for source in pinned.tables.values()]
    if not oids:
        return
    action = "read the tables' definitions"
    try:
        with undone_on_failure(pinned.coordinator, action, pinned.settings.secrets) as cursor:
            definitions = read_definitions(cursor, oids)
            notices = read_notices(cursor, pinned.tables.values(), definitions)
    except BackupError as error:
        yield failed_with("tables", "definitions", error)
    else:
        yield ok("tables", "definitions", "what recreates the tables can be read")
        for notice in notices:
            yield warning("tables", notice.subject, notice.message, notice.advice)
