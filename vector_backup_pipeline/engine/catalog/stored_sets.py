"""The state of a backup set: one model for every listing, for `latest` and for retention.

The verdict of a set has the outcome of its last verification and of its last restore test. A
verification without a restore test keeps the outcome of the last one, so each has its own time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ValidationError

from vector_backup_pipeline.engine.catalog.contents import BackupSet, Contents, DamagedSet
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.errors import ResourceNotFound
from vector_backup_pipeline.engine.file_names import (
    is_key_file,
    stamp_of_data_file,
    table_of_data_file,
    verdict_name,
)
from vector_backup_pipeline.engine.manifest import DataFile, KeyFile, TableBackup
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.table_names import parse_table_name

State = Literal["complete", "incomplete", "damaged"]
Mode = Literal["full", "incremental"]


@dataclass(frozen=True)
class Verdict:
    passed: bool
    at: datetime


@dataclass(frozen=True)
class StoredFile:
    """A data file or key file of a set.

    `table` is its table as in the backup's parameters, `schema_name` and `table_name` are its own.
    `rows` are the rows of the table, `bytes` is what was written; `rows` is None if the manifest
    can't be read.
    `stored_bytes` is the size of the stored file, None if it is missing. `builds_on` is the set
    that an incremental table builds on.
    """

    name: str
    table: str
    schema_name: str
    table_name: str
    rows: int | None
    bytes: int
    stored_bytes: int | None
    builds_on: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the file exists with its recorded size; its content is not read."""
        return self.stored_bytes == self.bytes

    @property
    def identity(self) -> tuple[str, str]:
        return self.schema_name, self.table_name


@dataclass(frozen=True)
class StoredSet:
    """A backup set without its manifest, which may be large. `created_at` is in UTC.

    `files` are its data files, one per table, and `key_files` belong to some of them.
    `says_complete` is what the manifest says. `truncated` are the tables that its run truncated, or
    may have truncated. `needs` is what it builds on; of a damaged set, all that it may build on.
    `broken_base` is the first set of those it builds on that is missing, incomplete or damaged.
    `can_be_base` is what the manifest says. `duration` is that of its run, in seconds.
    `source` is None if the manifest can't be read. `verified` is the last verification of the
    stored files, `drill` the last restore test; None without one.
    """

    stamp: str
    created_at: datetime
    says_complete: bool
    files: tuple[StoredFile, ...] = ()
    source: SourceDatabase | None = None
    truncated: tuple[str, ...] = ()
    key_files: tuple[StoredFile, ...] = ()
    builds_on: str | None = None
    needs: frozenset[str] = frozenset()
    broken_base: str | None = None
    can_be_base: bool = False
    duration: float = 0.0
    verified: Verdict | None = None
    drill: Verdict | None = None

    @property
    def state(self) -> State:
        if self.is_damaged or self.broken_base is not None:
            return "damaged"
        return "complete" if self.says_complete else "incomplete"

    @property
    def is_damaged(self) -> bool:
        """Whether the set itself is damaged, apart from what it builds on."""
        is_refuted = self.verified is not None and not self.verified.passed
        return self.source is None or bool(self.broken_files) or is_refuted

    @property
    def is_usable(self) -> bool:
        """Whether it is complete by the manifests of itself and of all that it builds on, whose
        files exist."""
        return self.says_complete and self.broken_base is None

    @property
    def all_files(self) -> tuple[StoredFile, ...]:
        return self.files + self.key_files

    @property
    def stored_bytes(self) -> int:
        return sum(file.stored_bytes or 0 for file in self.all_files)

    @property
    def rows(self) -> int | None:
        """The rows of all of its tables; None if the manifest can't be read."""
        return None if self.source is None else sum(file.rows or 0 for file in self.files)

    @property
    def broken_files(self) -> list[str]:
        """The files that are missing or of another size."""
        return [file.name for file in self.all_files if not file.is_whole]

    @property
    def emptied(self) -> list[StoredFile]:
        """The files with rows of truncated tables: they may be the only copy."""
        return [file for file in self.files if file.table in self.truncated and file.rows]

    @property
    def mode(self) -> Mode | None:
        if self.source is None:
            return None
        return "full" if self.builds_on is None else "incremental"

    @property
    def age(self) -> tuple[datetime, str]:
        """The sort key of sets: the later, the greater."""
        return self.created_at, self.stamp

    def date(self, timestamps: TimestampFormat) -> datetime:
        """When it was created, to the second, in the time zone of the settings."""
        return self.created_at.astimezone(timestamps.timezone).replace(microsecond=0)

    def files_named(self, text: str) -> list[StoredFile]:
        """The files of the tables that `text` names: as in the backup's parameters, or by `name` or
        `schema.name`."""
        name = parse_table_name(text)
        return [
            file
            for file in self.files
            if parse_table_name(file.table) == name
            or (name.name == file.table_name and name.schema in (None, file.schema_name))
        ]

    def files_of(self, tables: Sequence[str] | None) -> Sequence[StoredFile]:
        """The files of these tables; None names all."""
        if tables is None:
            return self.files
        return [file for table in tables for file in self.files_named(table)]


def stored_sets(contents: Contents, *, with_verdicts: bool = True) -> list[StoredSet]:
    """The sets of a directory, newest first."""
    by_stamp = {backup.stamp: stored_set(contents, backup) for backup in contents.sets()}
    for stamp, backup_set in by_stamp.items():
        if with_verdicts and verdict_name(stamp) in contents.sizes:
            verified, drill = read_verdicts(contents.directory, stamp)
            by_stamp[stamp] = replace(backup_set, verified=verified, drill=drill)
    sets = [replace(s, broken_base=_broken_base(s, by_stamp)) for s in by_stamp.values()]
    return sorted(sets, key=lambda backup_set: backup_set.age, reverse=True)


def _broken_base(backup_set: StoredSet, by_stamp: Mapping[str, StoredSet]) -> str | None:
    seen = {backup_set.stamp}
    while (stamp := backup_set.builds_on) is not None:
        base = by_stamp.get(stamp)
        # Manifests that were tampered with may build on one another in a cycle.
        if base is None or stamp in seen or base.is_damaged or not base.says_complete:
            return stamp
        seen.add(stamp)
        backup_set = base
    return None


def stored_set(contents: Contents, backup: BackupSet) -> StoredSet:
    """The state of a set by itself, without its verdicts."""
    if isinstance(backup, DamagedSet):
        files: dict[bool, list[StoredFile]] = {False: [], True: []}
        for name in sorted(contents.data_files.get(backup.stamp, ())):
            if stamp_of_data_file(name, contents.directory.timestamps):  # Else it is not finished.
                size, table = contents.sizes[name], table_of_data_file(name, backup.stamp)
                file = StoredFile(name, table, "", table, None, size, size)
                files[is_key_file(name)].append(file)
        return StoredSet(
            stamp=backup.stamp,
            created_at=backup.created_at,
            says_complete=False,
            files=tuple(files[False]),
            key_files=tuple(files[True]),
            needs=backup.mentions,
        )
    manifest = backup.manifest
    may_be_truncated = manifest.truncate in ("done", "pending", "unknown")
    return StoredSet(
        stamp=backup.stamp,
        created_at=backup.created_at,
        says_complete=manifest.complete,
        files=tuple(_file(contents, t, t.file) for t in manifest.tables if t.file),
        key_files=tuple(_file(contents, t, t.keys) for t in manifest.tables if t.keys),
        source=backup.source,
        truncated=tuple(manifest.truncated_tables) if may_be_truncated else (),
        builds_on=manifest.builds_on,
        needs=frozenset({manifest.builds_on} if manifest.builds_on else ()),
        can_be_base=manifest.can_be_base,
        duration=manifest.result.duration,
    )


def _file(contents: Contents, table: TableBackup, file: DataFile | KeyFile) -> StoredFile:
    return StoredFile(
        name=file.name,
        table=table.table,
        schema_name=table.schema_name,
        table_name=table.name,
        rows=table.rows,
        bytes=file.bytes,
        stored_bytes=contents.sizes.get(file.name),
        builds_on=table.builds_on,
    )


class _StoredDrill(BaseModel, extra="allow"):
    passed: bool
    # Files of earlier versions have none; it is then the time of the verification.
    drilled_at: AwareDatetime | None = None


class _StoredVerdict(BaseModel):
    verified_at: AwareDatetime
    passed: bool
    # Files of the first version have none.
    files_passed: bool | None = None
    drill: _StoredDrill | None = None


def read_verdicts(directory: BackupDirectory, stamp: str) -> tuple[Verdict | None, Verdict | None]:
    """The verification and the restore test of a set. A file that is missing or can't be parsed
    counts as no verdict."""
    stored = _read(directory, stamp)
    if stored is None:
        return None, None
    files_passed = stored.passed if stored.files_passed is None else stored.files_passed
    verified, drill = Verdict(files_passed, stored.verified_at), None
    if stored.drill is not None:
        drill = Verdict(stored.drill.passed, stored.drill.drilled_at or stored.verified_at)
    return verified, drill


def write_verdict(directory: BackupDirectory, verdict: SetVerdict) -> None:
    """Store the verdict with its set. It keeps the last restore test if there was none now."""
    data: dict[str, Any] = verdict.model_dump(mode="json")
    earlier = _read(directory, verdict.timestamp)
    if verdict.drill is None and earlier is not None and earlier.drill is not None:
        data["drill"] = earlier.drill.model_dump(mode="json")
        data["drill"]["drilled_at"] = (earlier.drill.drilled_at or earlier.verified_at).isoformat()
    drill_passed = data["drill"] is None or data["drill"]["passed"]
    data["passed"] = verdict.files_passed is True and drill_passed
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    directory.replace(verdict_name(verdict.timestamp), text.encode())


def _read(directory: BackupDirectory, stamp: str) -> _StoredVerdict | None:
    try:
        return _StoredVerdict.model_validate_json(b"".join(directory.read(verdict_name(stamp))))
    except (ValidationError, ResourceNotFound):
        return None
