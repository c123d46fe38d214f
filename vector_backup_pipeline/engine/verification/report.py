"""A verification's section of the log, as text."""

from __future__ import annotations

from vector_backup_pipeline.engine.restore.report import recall_line
from vector_backup_pipeline.engine.results import FailedTable, SetVerdict, VerifiedTable


def verdict_lines(verdict: SetVerdict) -> list[str]:
    """A set's verdict: the set, its files, its restore test."""
    mark = "✓" if verdict.passed else "✗"
    state = "" if verdict.complete else " (incomplete)"
    lines = [f"{mark} {verdict.timestamp}{state}"]
    lines += [_file_line(table, entry) for table, entry in verdict.tables.items()]
    if verdict.drill is not None:
        outcome = "restored and proven" if verdict.drill.passed else "FAILED"
        lines.append(f"  restore test on {verdict.drill.server or 'no server'}: {outcome}")
        lines += [f"  {recall_line(index_recall)}" for index_recall in verdict.drill.recall_at_10]
    shown = [entry.error for entry in verdict.tables.values() if isinstance(entry, FailedTable)]
    lines += [f"  {line}" for line in verdict.errors if not any(text in line for text in shown)]
    return lines


def _file_line(table: str, entry: VerifiedTable | FailedTable) -> str:
    if isinstance(entry, FailedTable):
        return f"  ✗ {table}: {entry.error}"
    proof = "hash, rows and digest equal" if entry.has_digest else "every row readable"
    return f"  ✓ {table}: {entry.rows} rows in {entry.source_file} ({entry.file_size}), {proof}"
