"""What incremental sets save, and the growth of locations."""

from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.catalog.locations import BackupLocation
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.statistics import statistics_of
from vector_backup_pipeline.engine.catalog.stored_sets import StoredFile, StoredSet

NOW = datetime(2025, 7, 21, tzinfo=timezone.utc)


def _set(days: int, rows: int, size: int, keys: int, builds_on: int | None = None) -> StoredSet:
    """A set made so many days ago; `builds_on` is the age of its base."""
    base = None if builds_on is None else f"{builds_on} days"
    table = ("docs", "public", "docs", rows)
    return StoredSet(
        stamp=f"{days} days",
        created_at=NOW - timedelta(days=days),
        says_complete=True,
        source=SourceDatabase(None, "rag"),
        files=(StoredFile("d", *table, size, size, base),),
        key_files=(StoredFile("k", *table, keys, keys, base),),
        builds_on=base,
    )


def test_incremental_sets_are_compared_with_the_full_one_of_their_chain() -> None:
    sets = (
        _set(2, rows=120, size=20, keys=35, builds_on=9),
        _set(9, rows=110, size=50, keys=30, builds_on=12),
        _set(12, rows=100, size=1000, keys=25),
        _set(13, rows=90, size=10, keys=10, builds_on=14),
    )
    location = BackupLocation(None, "/srv/vector_bak", "vector_bak", sets, (), has_log=False)
    empty = BackupLocation("t", "/srv/t/vector_bak", "t/vector_bak", (), (), has_log=False)

    each = statistics_of([location], NOW)

    assert each == {
        "sets": 4,
        "bytes": 1180,
        # The full set of the oldest one is missing.
        "bytes_saved": (1025 - 20 - 35) + (1025 - 50 - 30),
        "rows": 120,
        "bytes_7_days": 55,
        "rows_7_days": 10,
        "bytes_30_days": 1180,
        "rows_30_days": None,
    }
    assert statistics_of([location, empty], NOW) == each
