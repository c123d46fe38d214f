"""Adopt files of the older system: a manifest for each pair of files that can be read.

From then on the pair is a backup set like any other. The files themselves are not changed.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.catalog.contents import Contents, read_contents
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    LockTimeout,
    Problem,
    ResourceNotFound,
    parameter_error,
)
from vector_backup_pipeline.engine.file_names import (
    ADOPT_MARKER,
    LOG_NAME,
    PENDING_SUFFIX,
    manifest_name,
)
from vector_backup_pipeline.engine.manifest import (
    OLDER_SYSTEM,
    DataFile,
    Digest,
    Manifest,
    Server,
    TableBackup,
)
from vector_backup_pipeline.engine.older_system import OlderFile, examine_file
from vector_backup_pipeline.engine.report import RULE, error_lines
from vector_backup_pipeline.engine.results import (
    AdoptedFile,
    AdoptedPair,
    AdoptResult,
    BackupResult,
    ExportedTable,
    UnreadableFile,
    error_line,
    readable_size,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.adopt import AdoptParameters

# Where LangChain keeps JSON. The files don't tell the types of their columns.
_JSON_COLUMNS = ("cmetadata",)

# Nothing is known of the server that the rows came from.
_SERVER = Server(
    version="",
    version_num=0,
    encoding="UTF8",
    database=OLDER_SYSTEM,
    system_identifier=None,
    timeline=None,
    in_recovery=False,
    pgvector_version=None,
)


@dataclass(frozen=True)
class Adoption:
    """What an adoption did, and the error that failed it, if any."""

    result: AdoptResult
    error: BackupError | None


def adopt(
    root: BackupRoot, timestamps: TimestampFormat, request: AdoptParameters, *, run_id: str
) -> Adoption:
    """Read the pairs asked for, and write a manifest for each that can be read, unless it is a dry
    run. A pair that can't be read does not stop the others, nor does a location that fails.

    Raises:
        InvalidParams: the timestamp can't be that of a pair.
        ResourceNotFound: the root, the task's directory or a pair of that timestamp is missing.
    """
    stamp = request.timestamp
    if stamp is not None and not timestamps.is_stamp(stamp):
        example = timestamps.stamp(timestamps.now())
        text = f"is {stamp[:40]!r}, which is not valid: give one such as {example}."
        raise parameter_error([Problem(("timestamp",), text)])
    started, began_at = time.monotonic(), timestamps.now().replace(microsecond=0)
    check_root(root)
    run = _Run(request, timestamps, began_at, run_id)
    for task_id, directory in find_directories(root, request.task_id):
        try:
            run.adopt_in(directory, task_id)
        except BackupError as error:
            run.errors.append(error)
    if request.timestamp is not None and not run.pairs and not run.errors:
        raise _no_pair(request.timestamp, run.states)
    notices = [] if run.pairs else ["Nothing to adopt: there is no adoptable pair of files."]
    return Adoption(
        AdoptResult(
            adopt_performed=any(pair.state == "adopted" for pair in run.pairs),
            dry_run=request.dry_run,
            pairs=run.pairs,
            notices=[*notices, *run.notices],
            errors=[error_line(error) for error in run.errors],
            duration=round(time.monotonic() - started, 3),
            timestamp=began_at,
        ),
        run.errors[0] if run.errors else None,
    )


class _Run:
    """The state of one adoption. `states` says what was found instead of the pair asked for, by
    location."""

    def __init__(
        self, request: AdoptParameters, timestamps: TimestampFormat, began_at: datetime, run_id: str
    ) -> None:
        self.pairs: list[AdoptedPair] = []
        self.errors: list[BackupError] = []
        self.notices: list[str] = []
        self.states: dict[str, str] = {}
        self._request = request
        self._timestamps = timestamps
        self._began_at = began_at
        self._run_id = run_id

    def adopt_in(self, directory: BackupDirectory, task_id: str | None) -> None:
        """Adopt the pairs of one location."""
        if not self._pairs(read_contents(directory, self._timestamps)):
            return  # Nothing is written where there is nothing to adopt.
        with self._alone(directory):
            done, errors = [], []
            for stamp, files in self._pairs(read_contents(directory, self._timestamps)).items():
                pair, error = self._adopt(directory, task_id, stamp, files)
                done.append(pair)
                errors += [error] if error else []
            self._append_to_log(directory, done, errors)
        self.pairs += done
        self.errors += errors

    def _pairs(self, contents: Contents) -> dict[str, Mapping[str, str]]:
        """The files of each pair asked for, by timestamp and table."""
        stamps = [self._request.timestamp] if self._request.timestamp else contents.data_files
        found = {stamp: pair for stamp in stamps if (pair := contents.adoptable_pair(stamp))}
        if self._request.timestamp and not found:
            self.states[contents.directory.location] = _state(contents, self._request.timestamp)
        return dict(sorted(found.items()))

    @contextmanager
    def _alone(self, directory: BackupDirectory) -> Iterator[None]:
        """Keep a second adoption out, which would write the same manifests."""
        if self._request.dry_run:
            yield
            return
        owner: dict[str, str | int] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "run_id": self._run_id,
        }
        directory.remove_dead_claim(ADOPT_MARKER)
        claim = directory.claim(ADOPT_MARKER, owner)
        if claim is None:
            raise LockTimeout(
                f"Another adoption is active in {directory.location}. Retry when it has ended."
            )
        try:
            yield
        finally:
            claim.release()

    def _adopt(
        self, directory: BackupDirectory, task_id: str | None, stamp: str, files: Mapping[str, str]
    ) -> tuple[AdoptedPair, BackupError | None]:
        tables: dict[str, AdoptedFile | UnreadableFile] = {}
        found: dict[str, OlderFile] = {}
        error: BackupError | None = None
        for table, name in files.items():
            try:
                found[table] = examine_file(directory, name, _JSON_COLUMNS)
            except BackupError as cause:
                error = error or cause
                tables[table] = _unreadable(name, cause, None)
                continue
            if found[table].unreadable_count:
                unreadable = _unreadable_rows(directory, name, found[table])
                error = error or unreadable
                tables[table] = _unreadable(name, unreadable, found[table])
            else:
                size = readable_size(found[table].size)
                tables[table] = AdoptedFile(
                    source_file=name, rows=found[table].rows, file_size=size
                )
        if error is None and not self._request.dry_run:
            try:
                self._write_manifest(directory, task_id, stamp, files, found)
            except BackupError as cause:
                error = cause
        is_adopted = error is None and not self._request.dry_run
        state = "adopted" if is_adopted else "adoptable" if error is None else "not_adopted"
        return (
            AdoptedPair(
                task_id=task_id,
                backup_path=directory.location,
                timestamp=stamp,
                state=state,
                tables=tables,
            ),
            error,
        )

    def _write_manifest(
        self,
        directory: BackupDirectory,
        task_id: str | None,
        stamp: str,
        files: Mapping[str, str],
        found: Mapping[str, OlderFile],
    ) -> None:
        created_at = self._timestamps.moment(stamp)
        manifest = Manifest(
            tool_version=__version__,
            complete=True,
            timestamp=stamp,
            created_at=created_at,
            task_id=task_id,
            run_id=self._run_id,
            export_method=OLDER_SYSTEM,
            workers=1,
            server=_SERVER,
            snapshot="",
            tables=[_table(table, files[table], found[table]) for table in files],
            dependencies=(),
            truncate="none",
            truncated_tables=[],
            result=_result(directory, created_at, files, found),
            origin=OLDER_SYSTEM,
        )
        name = manifest_name(stamp)
        directory.delete(name + PENDING_SUFFIX)  # Of an adoption that was killed.
        with directory.create(name) as file:
            file.write(manifest.to_json(directory.manifest_key))
            file.commit()

    def _append_to_log(
        self, directory: BackupDirectory, pairs: list[AdoptedPair], errors: list[BackupError]
    ) -> None:
        if self._request.dry_run:
            return
        lines = [
            RULE,
            f"{self._began_at:%Y-%m-%d %H:%M:%S %Z}  adopt: {'FAILED' if errors else 'SUCCESS'}",
            f"Run: {self._run_id}",
            *(line for pair in pairs for line in pair_lines(pair)),
            *error_lines([error_line(error) for error in errors]),
        ]
        try:
            directory.append(LOG_NAME, "\n".join(lines) + "\n\n")
        except BackupError as error:
            self.notices.append(f"The log was not written: {error.message}")


def pair_lines(pair: AdoptedPair) -> list[str]:
    """A pair in words: the pair, its files, their unreadable rows."""
    mark = "✗" if pair.state == "not_adopted" else "✓"
    state = pair.state.replace("_", " ")
    lines = [f"{mark} {pair.timestamp} in {pair.backup_path}: {state}"]
    for table, file in pair.tables.items():
        if isinstance(file, AdoptedFile):
            rows = f"{file.rows} rows in {file.source_file} ({file.file_size})"
            lines.append(f"  ✓ {table}: {rows}")
        else:
            lines.append(f"  ✗ {table}: {file.error}")
            lines += [f"    line {row.line}: {row.reason}" for row in file.unreadable_rows]
            if (more := file.unreadable_count - len(file.unreadable_rows)) > 0:
                lines.append(f"    and {more} more")
    return lines


def _state(contents: Contents, stamp: str) -> str:
    """What is there of a timestamp that has no adoptable pair."""
    if stamp in contents.manifests:
        return "is a backup set already"
    if not contents.data_files.get(stamp):
        return "has no files"
    state = contents.state_without_set(stamp)
    if state == "orphan":
        return "is not a pair of both of LangChain's tables, or a run of this tool wrote it"
    return f"is {state}"


def _no_pair(stamp: str, states: Mapping[str, str]) -> ResourceNotFound:
    found = "; ".join(f"in {location} it {state}" for location, state in states.items())
    return ResourceNotFound(
        f"There is no pair of the older system's files of {stamp} to adopt: "
        f"{found or 'there is no backup directory'}. vector-backup list shows adoptable files."
    )


def _unreadable_rows(directory: BackupDirectory, name: str, found: OlderFile) -> IntegrityError:
    first = found.unreadable[0]
    return IntegrityError(
        f"{found.unreadable_count} row(s) of {directory.location}/{name} can't be read, the first "
        f"in line {first.line}: {first.reason}. The pair was not adopted. Correct the file, and "
        "adopt it again."
    )


def _unreadable(name: str, error: BackupError, found: OlderFile | None) -> UnreadableFile:
    return UnreadableFile(
        source_file=name,
        error_type=error.error_type,
        error=error.message,
        unreadable_count=found.unreadable_count if found else 0,
        unreadable_rows=list(found.unreadable) if found else [],
    )


def _table(table: str, name: str, found: OlderFile) -> TableBackup:
    columns = list(found.columns)
    return TableBackup(
        table=table,
        schema_name="public",
        name=table,
        oid=None,
        relations=[],
        columns=columns,
        file=DataFile(
            name=name,
            format="csv",
            compression="none",
            rows=found.rows,
            bytes=found.size,
            sha256=found.sha256,
            digest=Digest(columns=columns, value=None),
            duration=0.0,
            blocks=[],
        ),
        error=None,
        definition=None,
    )


def _result(
    directory: BackupDirectory,
    created_at: datetime,
    files: Mapping[str, str],
    found: Mapping[str, OlderFile],
) -> BackupResult:
    return BackupResult(
        backup_performed=True,
        truncate_performed=False,
        backup_directory=directory.location,
        tables_backed_up={
            table: ExportedTable(
                row_count=found[table].rows,
                file_size=readable_size(found[table].size),
                backup_file=name,
                duration=0.0,
            )
            for table, name in files.items()
        },
        truncate_results={},
        errors=[],
        duration=0.0,
        timestamp=created_at,
    )
