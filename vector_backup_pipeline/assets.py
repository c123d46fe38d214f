"""Each table's backups as one asset: its history, its numbers, and its checks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from vector_backup_pipeline.engine.results import FailedTable, SetVerdict, VerifyResult

STORED_FILES, RESTORE_DRILL = "stored_files", "restore_drill"
_DESCRIPTIONS = {
    STORED_FILES: "The stored files match the manifest: size, hash, rows, digest, blocks.",
    RESTORE_DRILL: "The sets were restored into a temporary database, and all rows matched.",
}


def table_asset_key(table: str) -> dg.AssetKey:
    # As a list: a string would be split at every "/" of a table's name.
    return dg.AssetKey(["vector_backup", table])


def table_asset_specs(tables: Sequence[str]) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            table_asset_key(table),
            description=f"Backups of the table {table}.",
            group_name="vector_backup",
            kinds={"postgres", "csv"},
        )
        for table in tables
    ]


def table_check_specs(tables: Sequence[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=table_asset_key(table), description=description)
        for table in tables
        for name, description in _DESCRIPTIONS.items()
    ]


@dataclass
class _Check:
    """The verdicts of all sets of a run on one check of a table. `failures` has a reason by set."""

    sets: list[str] = field(default_factory=list)
    rows: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, timestamp: str, rows: int, failure: str | None) -> None:
        self.sets.append(timestamp)
        if failure is None:
            self.rows = rows
        else:
            self.failures[timestamp] = failure

    def metadata(self) -> dict[str, dg.MetadataValue]:
        metadata: dict[str, dg.MetadataValue] = {
            "sets": dg.MetadataValue.int(len(self.sets)),
            "newest set": dg.MetadataValue.text(max(self.sets)),
            "rows in the last one": dg.MetadataValue.int(self.rows),
        }
        if self.failures:
            lines = "\n".join(f"- {stamp}: {reason}" for stamp, reason in self.failures.items())
            metadata["failures"] = dg.MetadataValue.md(lines)
        return metadata


def evaluations(result: VerifyResult, tables: Sequence[str]) -> Iterator[dg.AssetCheckEvaluation]:
    """An evaluation for each check of each table, which passes if all sets with the table passed.

    A set that cannot be read may contain any of `tables` (those of the settings), so it fails the
    checks of all of them.
    """
    checks: dict[tuple[str, str], _Check] = {}
    for verdict in result.sets:
        for table, name, rows, failure in _verdicts_by_table(verdict, tables):
            checks.setdefault((table, name), _Check()).add(verdict.timestamp, rows, failure)
    for (table, name), check in checks.items():
        yield dg.AssetCheckEvaluation(
            asset_key=table_asset_key(table),
            check_name=name,
            passed=not check.failures,
            metadata=check.metadata(),
        )


def _verdicts_by_table(
    verdict: SetVerdict, tables: Sequence[str]
) -> Iterator[tuple[str, str, int, str | None]]:
    """Table, check, rows and failure."""
    if verdict.files_passed is False and not verdict.tables:
        reason = f"the set cannot be read: {'; '.join(verdict.errors)}"
        for table in tables:
            yield table, STORED_FILES, 0, reason
    for table, entry in verdict.tables.items():
        if isinstance(entry, FailedTable):
            yield table, STORED_FILES, 0, entry.error
        else:
            yield table, STORED_FILES, entry.rows, None
        if verdict.drill is None:
            continue
        restored = verdict.drill.restore_results.get(table)
        failure = None if verdict.drill.passed else "; ".join(verdict.drill.errors)
        if isinstance(restored, FailedTable):
            yield table, RESTORE_DRILL, 0, restored.error
        else:
            yield table, RESTORE_DRILL, restored.rows_restored if restored else 0, failure
