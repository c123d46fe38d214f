"""Each table's backups as one asset, so that the UI keeps their history and plots their numbers,
and their verifications as its checks, so that it shows green or red."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from vector_backup_pipeline.engine.results import FailedTable, SetVerdict, VerifyResult

STORED_FILES, RESTORE_DRILL = "stored_files", "restore_drill"
_DESCRIPTIONS = {
    STORED_FILES: "The stored files are what was written: size, hash, rows, digest, blocks.",
    RESTORE_DRILL: "The sets were restored into a database of their own, and were equal there.",
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
class _Found:
    """What the sets of a run say of one table's check; `failures` by set."""

    sets: list[str] = field(default_factory=list)
    rows: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def evaluations(result: VerifyResult, tables: Sequence[str]) -> Iterator[dg.AssetCheckEvaluation]:
    """One for each check of each table: passed if every set that holds the table did.

    A set that can't be read may have held any of `tables`, those of the settings, and fails them.
    """
    found: dict[tuple[str, str], _Found] = {}
    for verdict in result.sets:
        if verdict.files_passed is False and not verdict.tables:
            _add_unreadable(found, verdict, tables)
        for table, entry in verdict.tables.items():
            of_files = found.setdefault((table, STORED_FILES), _Found())
            of_files.sets.append(verdict.timestamp)
            if isinstance(entry, FailedTable):
                of_files.failures[verdict.timestamp] = entry.error
            else:
                of_files.rows = entry.rows
            _add_drill(found, verdict, table)
    for (table, check), each in found.items():
        yield dg.AssetCheckEvaluation(
            asset_key=table_asset_key(table),
            check_name=check,
            passed=not each.failures,
            metadata=_metadata(each),
        )


def _add_unreadable(
    found: dict[tuple[str, str], _Found], verdict: SetVerdict, tables: Sequence[str]
) -> None:
    for table in tables:
        of_files = found.setdefault((table, STORED_FILES), _Found())
        of_files.sets.append(verdict.timestamp)
        reason = f"the set can't be read: {'; '.join(verdict.errors)}"
        of_files.failures[verdict.timestamp] = reason


def _add_drill(found: dict[tuple[str, str], _Found], verdict: SetVerdict, table: str) -> None:
    if verdict.drill is None:
        return
    of_drill = found.setdefault((table, RESTORE_DRILL), _Found())
    of_drill.sets.append(verdict.timestamp)
    entry = verdict.drill.restore_results.get(table)
    if not verdict.drill.passed:
        reason = entry.error if isinstance(entry, FailedTable) else "; ".join(verdict.drill.errors)
        of_drill.failures[verdict.timestamp] = reason
    elif entry is not None and not isinstance(entry, FailedTable):
        of_drill.rows = entry.rows_restored


def _metadata(found: _Found) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "sets": dg.MetadataValue.int(len(found.sets)),
        "newest set": dg.MetadataValue.text(max(found.sets)),
        "rows in the last one": dg.MetadataValue.int(found.rows),
    }
    if found.failures:
        lines = "\n".join(f"- {stamp}: {reason}" for stamp, reason in found.failures.items())
        metadata["failures"] = dg.MetadataValue.md(lines)
    return metadata
