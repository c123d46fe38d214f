"""The result of a restore as text, for the log and the terminal."""

from vector_backup_pipeline.engine import results
from vector_backup_pipeline.engine.report import notice_lines, truncate_line


def restore_lines(result: results.RestoreResult) -> list[str]:
    lines = [_truncated_line(name, entry) for name, entry in result.truncate_results.items()]
    lines += [_restored_line(name, entry) for name, entry in result.restore_results.items()]
    lines += [recall_line(index_recall) for index_recall in result.recall_at_10]
    for table, parts in result.not_recreated.items():
        lines += [f"  - {table}: not recreated: {part}" for part in parts]
    return [*lines, *notice_lines(result.notices)]


def _truncated_line(name: str, entry: results.TruncatedTable | results.TruncateFailure) -> str:
    if isinstance(entry, results.TruncatedTable):
        return f"  ✓ {name}: truncated before the load ({entry.rows_before} rows)"
    return truncate_line(name, entry)


def _restored_line(name: str, entry: results.RestoredTable | results.FailedTable) -> str:
    if isinstance(entry, results.FailedTable):
        return f"  ✗ {name}: FAILED - {entry.error}"
    proof = "content digest proven" if entry.digest_matches else "number of rows proven"
    return (
        f"  ✓ {name}: {entry.rows_restored} rows <- {entry.source_file} ({entry.file_size}), "
        f"{proof}"
    )


def recall_line(measured: results.Recall) -> str:
    name = measured.index or measured.table
    if measured.recall is None:
        return f"  ~ {name}: recall@10 was not measured: {measured.note}"
    note = f" ({measured.note})" if measured.note else ""
    probes = "1 probe" if measured.probes == 1 else f"{measured.probes} probes"
    return f"  ~ {name}: recall@10 {measured.recall:.3f} over {probes}{note}"
