"""The metrics for Prometheus: names, labels and meaning, and the values of stored sets and runs."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vector_backup_pipeline.engine.catalog.locations import (
    BackupLocation,
    check_root,
    find_locations,
    labels_of,
)
from vector_backup_pipeline.engine.catalog.stored_sets import State, StoredSet
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.operations import ERROR_TAG
from vector_backup_pipeline.settings import Settings

RUN_DAYS = 7
_SETS = ("target", "location", "database")
# Prometheus has a label "job" of its own.
_RUNS = ("target", "location", "dagster_job", "status")
# The labels and the meaning of each metric. All are gauges.
METRICS: Mapping[str, tuple[Sequence[str], str]] = {
    "root_up": (("target",), "1 if the backup root can be read, else 0."),
    "dagster_up": ((), "1 if Dagster answers, else 0, and then there are no metrics of runs."),
    "max_age_seconds": (("target", "table"), "Age from which a backup of the table is stale."),
    "last_success_timestamp_seconds": ((*_SETS, "table"), "When the last good backup was made."),
    "last_success_age_seconds": ((*_SETS, "table"), "Age of the last good backup."),
    "table_rows": ((*_SETS, "table"), "Rows of the table in the last good backup."),
    "table_bytes": ((*_SETS, "table"), "Size of the table's file in the last good backup."),
    "duration_seconds": ((*_SETS, "mode"), "Duration of the last good backup in this mode."),
    "sets": ((*_SETS, "state"), "Number of backup sets in this state."),
    "verdict_timestamp_seconds": (
        (*_SETS, "check", "verdict"),
        "When an existing set last got this verdict, and no other since.",
    ),
    "recent_runs": ((*_RUNS, "error_type"), f"Number of runs in the last {RUN_DAYS} days."),
    "last_run_timestamp_seconds": (_RUNS, "When the last run with this status ended."),
}
# The name of a metric, its value, and the values of its labels.
Sample = tuple[str, float, Sequence[str]]


def read_root(settings: Settings) -> list[BackupLocation]:
    """Raises `ResourceNotFound` or `StorageError` if the root does not exist or cannot be read."""
    root = settings.open_root()
    if settings.is_used:
        check_root(root)
    return find_locations(root)


class Samples(Collector):
    """Samples as Prometheus' library takes them, once."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Collection[GaugeMetricFamily]:
        families = {
            name: GaugeMetricFamily(f"vector_backup_{name}", text, labels=labels)
            for name, (labels, text) in METRICS.items()
        }
        for name, value, labels in self._samples:
            families[name].add_metric(labels, value)
        return families.values()


def samples_of_root(
    settings: Settings, locations: Sequence[BackupLocation] | None
) -> Iterator[Sample]:
    """The metrics of a target's root; `locations` is None if it cannot be read."""
    target, now = settings.target or "", datetime.now(timezone.utc)
    yield "root_up", float(locations is not None), [target]
    stale = settings.max_age.before(now, settings.timestamps.timezone)
    is_used = settings.is_used or bool(locations)
    if settings.max_age and stale is not None and is_used:
        for table in settings.tables:
            yield "max_age_seconds", (now - stale).total_seconds(), [target, table]
    databases = labels_of(locations or ())
    for location in locations or ():
        sets: dict[str, list[StoredSet]] = defaultdict(list)
        for stored in reversed(location.sets):
            sets[databases[stored.source] if stored.source else ""].append(stored)
        for database, of_database in sets.items():
            for name, value, labels in _samples_of_sets(of_database, now):
                yield name, value, [target, location.task_id or "", database, *labels]


def _samples_of_sets(sets: Sequence[StoredSet], now: datetime) -> Iterator[Sample]:
    """Without the labels that all have. The newest set is the last, so it replaces the others."""
    states = Counter(stored.state for stored in sets)
    for state in get_args(State):
        yield "sets", states[state], [state]
    verdicts: dict[tuple[str, str], float] = defaultdict(float)
    for stored in sets:
        for check, verdict in (("verification", stored.verified), ("drill", stored.drill)):
            if verdict is not None:
                key = check, "passed" if verdict.passed else "failed"
                verdicts[key] = max(verdicts[key], verdict.at.timestamp())
    for key, verdict_at in verdicts.items():
        yield "verdict_timestamp_seconds", verdict_at, key
    good = [stored for stored in sets if stored.state == "complete"]
    for mode, duration in {stored.mode or "": stored.duration for stored in good}.items():
        yield "duration_seconds", duration, [mode]
    tables = {file.table: (stored.created_at, file) for stored in good for file in stored.files}
    for table, (made_at, file) in tables.items():
        yield "last_success_timestamp_seconds", made_at.timestamp(), [table]
        yield "last_success_age_seconds", (now - made_at).total_seconds(), [table]
        yield "table_rows", file.rows or 0, [table]
        yield "table_bytes", file.bytes, [table]


def samples_of_runs(runs: Iterable[Mapping[str, Any]] | None) -> Iterator[Sample]:
    """The metrics of Dagster's runs, which have the keys of its GraphQL; `runs` is None if it does
    not answer."""
    yield "dagster_up", float(runs is not None), []
    counts: Counter[tuple[str, ...]] = Counter()
    ends: dict[tuple[str, ...], float] = defaultdict(float)
    for run in runs or ():
        target, location = (str(run["runConfig"].get(key) or "") for key in ("target", "task_id"))
        labels = target, location, run["jobName"], run["status"]
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        error_type = tags.get(ERROR_TAG, BackupError.error_type)
        counts.update([(*labels, error_type if run["status"] == "FAILURE" else "")])
        if run["endTime"] is not None:
            ends[labels] = max(ends[labels], run["endTime"])
    yield from (("recent_runs", count, key) for key, count in counts.items())
    yield from (("last_run_timestamp_seconds", ended_at, key) for key, ended_at in ends.items())
