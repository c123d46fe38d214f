"""What a caller may ask of a restore, checked once for every door."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vector_backup_pipeline.engine.errors import InvalidParams, MissingRequiredParams
from vector_backup_pipeline.engine.parameters import (
    MOST_WORKERS,
    TableName,
    check_at_least_one,
    check_choice,
    check_tables,
    check_task_id,
    parse_table_name,
)

CONFLICT_RULES = ("fail", "skip", "replace")
LATEST = "latest"
DEFAULT_PROBES = 5
# Each probe scans the whole table once for the exact answer.
MOST_PROBES = 1000
MOST_MAINTENANCE_WORKERS = 1024
MEMORY_PATTERN = "[1-9][0-9]*(kB|MB|GB|TB)"

_LONGEST_NAME = 63  # NAMEDATALEN - 1, as PostgreSQL is built everywhere
_MEMORY = re.compile(MEMORY_PATTERN)


@dataclass(frozen=True)
class RestoreRequest:
    """The parameters of one restore, checked. The connection is not among them: it is a secret.

    `tables` is None for all of the set, `collections` None for all rows. `rename` leads from a
    table's name in the backup to its name in the target.
    """

    timestamp: str
    source_database: str | None = field(default=None, kw_only=True)
    backup_path: str | None
    task_id: str | None
    tables: tuple[str, ...] | None
    truncate_before_restore: bool
    on_conflict: str
    rename: Mapping[str, str]
    collections: tuple[str, ...] | None
    fire_triggers: bool
    disable_triggers: bool
    allow_other_versions: bool
    workers: int
    maintenance_work_mem: str | None
    max_parallel_maintenance_workers: int | None
    probes: int
    progress_every: int

    def __post_init__(self) -> None:
        if not self.timestamp:
            raise MissingRequiredParams(
                "timestamp is missing: name the backup set to restore, such as 20250721_234914, or "
                f"{LATEST}. vector-backup list shows what is there."
            )
        check_task_id(self.task_id)
        if self.task_id is not None and self.backup_path is not None:
            raise InvalidParams(
                "task_id and backup_path are both given; task_id is short for a path. Give one."
            )
        if self.tables is not None:
            check_tables(self.tables)
        self._check_rename()
        check_choice("on_conflict", self.on_conflict, CONFLICT_RULES)
        self._check_what_excludes_another()
        check_at_least_one("progress_every", self.progress_every)
        check_at_least_one("workers", self.workers)
        if self.workers > MOST_WORKERS:
            raise InvalidParams(f"workers is {self.workers}; at most {MOST_WORKERS} are allowed.")
        if not 0 <= self.probes <= MOST_PROBES:
            raise InvalidParams(
                f"probes is {self.probes}; it must be from 0 (none) to {MOST_PROBES}."
            )
        self._check_maintenance()

    @property
    def selects_rows(self) -> bool:
        return self.collections is not None

    @property
    def loads_every_row_as_it_is(self) -> bool:
        """Whether each row of the files goes into the target, so that digests can be compared."""
        return self.on_conflict == "fail" and not self.selects_rows

    def _check_rename(self) -> None:
        targets: dict[TableName, str] = {}
        for old, new in self.rename.items():
            parse_table_name(old)
            target = parse_table_name(new)
            _check_length(new, target)
            if target in targets:
                raise InvalidParams(
                    f"rename leads {old!r} and {targets[target]!r} both to {new!r}. Give each "
                    "table a name of its own."
                )
            targets[target] = old

    def _check_what_excludes_another(self) -> None:
        if self.collections is not None and not self.collections:
            raise InvalidParams("collections is empty: name at least one, or leave it out.")
        if self.collections is not None and self.truncate_before_restore:
            raise InvalidParams(
                "collections with truncate_before_restore would wipe all other collections. Use "
                "on_conflict 'replace' to put some collections back over what is there."
            )
        if self.fire_triggers and self.disable_triggers:
            raise InvalidParams(
                "fire_triggers and disable_triggers exclude each other. Give one of them."
            )
        if self.truncate_before_restore and self.on_conflict != "fail":
            raise InvalidParams(
                f"on_conflict {self.on_conflict!r} has no meaning with truncate_before_restore: "
                "in an emptied table nothing collides. Give one of them."
            )

    def _check_maintenance(self) -> None:
        memory = self.maintenance_work_mem
        if memory is not None and not _MEMORY.fullmatch(memory):
            raise InvalidParams(
                f"maintenance_work_mem is {memory!r}; write a number and kB, MB, GB or TB, such as "
                "'2GB'."
            )
        workers = self.max_parallel_maintenance_workers
        if workers is not None and not 0 <= workers <= MOST_MAINTENANCE_WORKERS:
            raise InvalidParams(
                f"max_parallel_maintenance_workers is {workers}; it must be from 0 to "
                f"{MOST_MAINTENANCE_WORKERS}."
            )


def _check_length(given: str, name: TableName) -> None:
    """The server would cut a longer name, and make a table of another one."""
    for part in (name.schema, name.name):
        if part is not None and len(part.encode()) > _LONGEST_NAME:
            raise InvalidParams(
                f"rename leads to {given!r}, but {part!r} has {len(part.encode())} bytes; a name "
                f"may have {_LONGEST_NAME}."
            )
