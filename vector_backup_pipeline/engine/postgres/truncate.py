"""Truncation of tables that were backed up, in the transaction that has locked out writers since
before the snapshot. If a check before COMMIT fails, nothing is truncated."""

from collections.abc import Mapping, Sequence

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.postgres.commit import commit_or_learn
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.snapshot import WRITERS_LOCK_MODE, PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import relation_locks, truncate
from vector_backup_pipeline.engine.postgres.targets import count_rows

_IF_UNKNOWN = (
    "The connection was lost while the truncate was being committed, and the server could not be "
    "reached to check whether it was committed. The backup is complete either way: check whether "
    "the tables are empty before you write to them."
)


def check_before_truncate(pinned: PinnedSnapshot, exported_rows: Mapping[str, int]) -> None:
    """Compare the tables with what the backup has of each, by the names in `exported_rows`.

    Raises:
        IntegrityError: a row may be missing from the backup.
        DatabaseError: the transaction is gone, and its lock with it.
    """
    with (
        database_errors(f"check {', '.join(exported_rows)}", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        locks = relation_locks(cursor)
        for name, exported in exported_rows.items():
            source = pinned.tables[name]
            if (source.table.oid, WRITERS_LOCK_MODE) not in locks:
                raise IntegrityError(
                    f"This run no longer holds its lock against writers on {name}, so rows may "
                    "have come that the backup lacks. Nothing was truncated; run again."
                )
            rows = count_rows(cursor, source.table.target)
            if rows != exported:
                raise IntegrityError(
                    f"The table {name} has {rows} rows but its backup has {exported}. Nothing was "
                    "truncated. Keep this backup for examination and report it."
                )


def truncate_tables(pinned: PinnedSnapshot, names: Sequence[str]) -> dict[str, int]:
    """Truncate the tables, all in one statement, and commit; the rows after, by name.

    Raises:
        CommitUnknown: the outcome is unknown.
        IntegrityError, LockTimeout, DatabaseError, …: nothing was truncated.
    """
    try:
        with database_errors(f"truncate {', '.join(names)}", pinned.settings.secrets):
            with pinned.coordinator.cursor() as cursor:
                truncate(cursor, [pinned.tables[name].table for name in names])
                rows_after = {
                    name: count_rows(cursor, pinned.tables[name].table.target) for name in names
                }
            for name, rows in rows_after.items():
                if rows:
                    raise IntegrityError(
                        f"After TRUNCATE the table {name} shows {rows} rows; a trigger may have "
                        "added them. Everything was rolled back and nothing was truncated."
                    )
            commit_or_learn(pinned.coordinator, pinned.settings, pinned.server, _IF_UNKNOWN)
    except BaseException:
        pinned.close()  # Release the locks at once.
        raise
    return rows_after
