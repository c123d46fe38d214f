"""Each table's backups as one asset: its source, its partitions, and its checks."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

import dagster as dg

from vector_backup_pipeline.engine.results import FailedTable, SetVerdict, VerifyResult
from vector_backup_pipeline.engine.storage.object_url import is_url
from vector_backup_pipeline.operations import TARGET_TAG
from vector_backup_pipeline.settings import Settings

STORED_FILES, ROW_COUNT_DROP, RESTORE_DRILL = "stored_files", "row_count_drop", "restore_drill"
_DESCRIPTIONS = {
    STORED_FILES: "The stored files match the manifest. Each backup compares the sizes of its own "
    "files; a verification reads them all and compares hash, rows, digest and blocks.",
    ROW_COUNT_DROP: "The table has not lost more than VECTOR_BACKUP_MAX_DROP percent of its rows "
    "since the previous complete set of the same database and location.",
    RESTORE_DRILL: "The sets were restored into a temporary database, and all rows matched.",
}

# A partition is a location, so that its history is its own. A run adds its partition.
LOCATIONS_NAME = "vector_backup_task_id"
LOCATIONS = dg.DynamicPartitionsDefinition(name=LOCATIONS_NAME)


def partition_of(task_id: str | None, settings: Settings) -> str:
    """The partition of a task's backups, or of the root's own: the name of the root's directory,
    which no task can have."""
    return task_id or settings.directory


def table_asset_key(table: str, target: str | None = None) -> dg.AssetKey:
    # As a list: a string would be split at every "/" of a table's name.
    return dg.AssetKey(["vector_backup", *([target] if target else []), table])


def table_asset_specs(settings: Settings) -> list[dg.AssetSpec]:
    """The backups of each table. An asset is stale if its last backup is older than `max_age`."""
    now = datetime.now(timezone.utc)
    oldest = settings.max_age.before(now, timezone.utc) if settings.max_age else None
    freshness = dg.FreshnessPolicy.time_window(now - oldest) if oldest else None
    storage = settings.root.partition("://")[0] if is_url(settings.root) else "file"
    tags: dict[str, str] = {"vector_backup/mode": settings.mode}
    if settings.target is not None:
        tags[TARGET_TAG] = settings.target
    return [
        dg.AssetSpec(
            table_asset_key(table, settings.target),
            deps=[source.key],
            description=f"Backups of the table {table}. A partition is a location: a task, or "
            f"{settings.directory} for the root's own.",
            group_name="vector_backup",
            kinds={settings.format, storage},
            tags=tags,
            partitions_def=LOCATIONS,
            freshness_policy=freshness,
        )
        for table, source in zip(settings.tables, source_asset_specs(settings), strict=True)
    ]


def source_asset_specs(settings: Settings) -> list[dg.AssetSpec]:
    """The tables that are backed up, which others fill."""
    return [
        dg.AssetSpec(
            dg.AssetKey(["postgresql", *table_asset_key(table, settings.target).path[1:]]),
            description=f"The table {table} in the database.",
            group_name="vector_backup",
            kinds={"postgresql"},
            metadata={"dagster/table_name": table},
        )
        for table in settings.tables
    ]


def table_check_specs(settings: Settings) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=key, description=description)
        for key in [table_asset_key(table, settings.target) for table in settings.tables]
        for name, description in _DESCRIPTIONS.items()
    ]


class _Verdict(NamedTuple):
    """The verdict of a set on one check of a table. `failure` is None if it passed."""

    timestamp: str
    rows: int
    failure: str | None


def evaluations(result: VerifyResult, settings: Settings) -> Iterator[dg.AssetCheckEvaluation]:
    """An evaluation for each check of each table, which passes if all sets with the table passed.

    A set that cannot be read may contain any table of the settings, so it fails the checks of all
    of them.
    """
    checks: dict[tuple[str, str], list[_Verdict]] = defaultdict(list)
    for verdict in result.sets:
        for table, name, rows, failure in _verdicts_by_table(verdict, settings):
            checks[table, name].append(_Verdict(verdict.timestamp, rows, failure))
    for (table, name), verdicts in checks.items():
        passed = [verdict.rows for verdict in verdicts if verdict.failure is None]
        metadata: dict[str, int | str | dg.MetadataValue] = {
            "sets": len(verdicts),
            "newest set": max(verdict.timestamp for verdict in verdicts),
            "rows in the last one": passed[-1] if passed else 0,
        }
        failures = [f"- {v.timestamp}: {v.failure}" for v in verdicts if v.failure is not None]
        if failures:
            metadata["failures"] = dg.MetadataValue.md("\n".join(failures))
        yield dg.AssetCheckEvaluation(
            asset_key=table_asset_key(table, settings.target),
            check_name=name,
            passed=not failures,
            metadata=metadata,
        )


def _verdicts_by_table(
    verdict: SetVerdict, settings: Settings
) -> Iterator[tuple[str, str, int, str | None]]:
    """Table, check, rows and failure."""
    if verdict.files_passed is False and not verdict.tables:
        reason = f"the set cannot be read: {'; '.join(verdict.errors)}"
        for table in settings.tables:
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
