"""The whole check, an area after the other; one that fails keeps no other from being tried."""

from __future__ import annotations

from collections.abc import Iterator

from vector_backup_pipeline.engine.checkup.backups import check_backups
from vector_backup_pipeline.engine.checkup.clock import check_clock
from vector_backup_pipeline.engine.checkup.database import check_database
from vector_backup_pipeline.engine.checkup.finding import Finding, skipped
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.checkup.space import check_space
from vector_backup_pipeline.engine.checkup.storage import check_storage


def check_configuration(plan: CheckPlan) -> Iterator[Finding]:
    """What was found, told as soon as an area is done.

    Raises:
        StorageError: the check was interrupted, and what it wrote could not be removed.
    """
    database = check_database(plan)
    yield from database.findings
    storage = check_storage(plan)
    yield from storage.findings
    backups = check_backups(plan, database.source)
    if plan.root is None:
        yield skipped("space", "free space", "the settings are wrong")
    else:
        yield check_space(plan.root, database.expected_size, backups.newest_size)
    yield from check_clock(plan, database.server_ahead, storage.clock_ahead)
    yield from backups.findings
