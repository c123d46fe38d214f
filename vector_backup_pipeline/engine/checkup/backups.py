"""The backups that are there already: how old, and were they ever verified?"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import timedelta

from vector_backup_pipeline.engine.catalog import FoundSet, find_locations
from vector_backup_pipeline.engine.catalog.sets import is_of_the_future
from vector_backup_pipeline.engine.catalog.sources import (
    OLDER_SYSTEM,
    SourceDatabase,
    listed_sources,
)
from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed_with,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound


@dataclass(frozen=True)
class BackupsReport:
    """`newest_size` in bytes, of the newest good set; None without one."""

    findings: list[Finding]
    newest_size: int | None = None


def check_backups(plan: CheckPlan, source: SourceDatabase | None) -> BackupsReport:
    """Look through the sets of the location where the next backup goes; the newest good one is that
    of the database `source`, if it is known."""
    if plan.root is None or plan.timestamps is None:
        return BackupsReport([skipped("backups", "newest", "the settings are wrong")])
    try:
        found = find_locations(
            plan.root, plan.timestamps, task_id=plan.task_id, global_only=plan.task_id is None
        )
    except ResourceNotFound:
        return BackupsReport([skipped("backups", "newest", "there is no such task")])
    except BackupError as error:
        return BackupsReport([failed_with("backups", "newest", error)])
    sets = [each for location in found for each in location.sets]
    complete = [each for each in sets if each.state == "complete"]
    good = [each for each in complete if _is_of(each, source)]
    others = {each.source for each in complete if each.source and not _is_of(each, source)}
    findings = [*_newest(plan, good, others), *_damaged(sets), *_from_the_future(plan, sets)]
    return BackupsReport(findings, _size(good[0]) if good else None)


def _is_of(each: FoundSet, source: SourceDatabase | None) -> bool:
    if source is None or each.source in (None, OLDER_SYSTEM):
        return True
    return not each.source.differs_from(source)


def _size(each: FoundSet) -> int:
    return sum(file.size or 0 for file in each.files)


def _newest(
    plan: CheckPlan, good: list[FoundSet], others: Set[SourceDatabase]
) -> Iterator[Finding]:
    if not good:
        of = f" of this database, only of {listed_sources(others)}" if others else ""
        yield ok("backups", "newest", f"there is no good backup yet{of}")
        return
    newest = good[0]
    age = plan.now() - newest.created_at
    verdict = newest.verdicts.verified
    verified = f"verified on {verdict.at:%Y-%m-%d}" if verdict else "never verified"
    told = f"the newest good backup is {newest.stamp}, {_readable(age)} old, {verified}"
    if plan.expected_every is not None and age > 2 * plan.expected_every:
        yield warning(
            "backups",
            "newest",
            f"{told}; one is expected every {_readable(plan.expected_every)}",
            "See in Dagster's UI or vector_backup_log.txt what became of the runs since.",
        )
    else:
        yield ok("backups", "newest", told)


def _damaged(sets: list[FoundSet]) -> Iterator[Finding]:
    bad = [each.stamp for each in sets if each.state == "damaged"]
    if bad:
        yield warning(
            "backups",
            "damaged",
            f"damaged, or files of it are missing: {', '.join(bad)}",
            "See vector-backup list and vector-backup verify; make a new backup.",
        )


def _from_the_future(plan: CheckPlan, sets: list[FoundSet]) -> Iterator[Finding]:
    late = [each.stamp for each in sets if is_of_the_future(each.created_at, plan.now())]
    if late:
        yield warning(
            "backups",
            "future",
            f"made in the future, by this machine's clock: {', '.join(late)}",
            "One of the clocks was wrong. Until that time has come, these count as the newest.",
        )


def _readable(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.0f} days" if hours >= 72 else f"{hours:.1f} hours"
