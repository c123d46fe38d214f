"""Adopts files of the older system: writes a manifest for each pair of files that can be read.

From then on the pair is a backup set like any other. The files themselves are not changed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.catalog.claims import exclusive
from vector_backup_pipeline.engine.catalog.contents import Contents, read_contents
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
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
from vector_backup_pipeline.engine.report import error_lines, section
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
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.adopt import AdoptParameters

# LangChain's JSON columns. The files don't have the types of their columns.
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
    """The result of an adoption, and the error that failed it, if any."""

    result: AdoptResult
    error: BackupError | None


def adopt(
    root: BackupRoot, timestamps: TimestampFormat, parameters: AdoptParameters, *, run_id: str
) -> Adoption:
    """Read the pairs asked for, and write a manifest for each that can be read, unless it is a dry
    run. A pair that can't be read does not stop the others, nor does a location that fails.

    Raises:
        InvalidParams: the timestamp is malformed.
        ResourceNotFound: the root, the task's directory or a pair with that timestamp is missing.
    """
    stamp = parameters.timestamp
    check_timestamp(timestamps, stamp, may_be_latest=False)
    check_root(root)
    run = _AdoptRun(parameters, timestamps, run_id)
    for task_id, directory in find_directories(root, parameters.task_id):
        try:
            run.adopt_in(directory, task_id)
        except BackupError as error:
            run.errors.append(error)
    if stamp is not None and not run.pairs and not run.errors:
        raise ResourceNotFound(
            f"There is no pair of the older system's files with the timestamp {stamp} to adopt. "
            "vector-backup list shows the state of files and sets."
        )
    return Adoption(run.result(), next(iter(run.errors), None))


class _AdoptRun:
    """The state of one adoption."""

    def __init__(
        self, parameters: AdoptParameters, timestamps: TimestampFormat, run_id: str
    ) -> None:
        self.pairs: list[AdoptedPair] = []
        self.errors: list[BackupError] = []
        self._notices: list[str] = []
        self._parameters = parameters
        self._timestamps = timestamps
        self._run_id = run_id
        self._started = time.monotonic()
        self._began_at = timestamps.now().replace(microsecond=0)

    def adopt_in(self, directory: BackupDirectory, task_id: str | None) -> None:
        """Adopt the pairs of one location."""
        if not self._pairs(read_contents(directory, self._timestamps)):
            return  # Nothing is written where there is nothing to adopt.
        is_dry_run = self._parameters.dry_run
        alone = exclusive(directory, ADOPT_MARKER, self._run_id, "adoption")
        with contextlib.nullcontext() if is_dry_run else alone:
            pairs, errors = [], []
            for stamp, names in self._pairs(read_contents(directory, self._timestamps)).items():
                pair, error = self._adopt(directory, task_id, stamp, names)
                pairs.append(pair)
                errors += [error] if error else []
            if not is_dry_run:
                self._write_log(directory, pairs, errors)
        self.pairs += pairs
        self.errors += errors

    def _pairs(self, contents: Contents) -> dict[str, Mapping[str, str]]:
        """The file names of each pair asked for, by timestamp and table."""
        wanted = self._parameters.timestamp
        stamps = sorted(contents.data_files) if wanted is None else [wanted]
        return {stamp: pair for stamp in stamps if (pair := contents.adoptable_pair(stamp))}

    def _adopt(
        self, directory: BackupDirectory, task_id: str | None, stamp: str, names: Mapping[str, str]
    ) -> tuple[AdoptedPair, BackupError | None]:
        files: dict[str, OlderFile] = {}
        tables: dict[str, AdoptedFile | UnreadableFile] = {}
        errors: list[BackupError] = []
        for table, name in names.items():
            file = None
            try:
                file = files[table] = examine_file(directory, name, _JSON_COLUMNS)
                file.check_readable()
            except BackupError as error:
                errors.append(error)
                tables[table] = UnreadableFile(
                    source_file=name,
                    error_type=error.error_type,
                    error=error.message,
                    unreadable_count=file.unreadable_count if file else 0,
                    unreadable_rows=list(file.unreadable) if file else [],
                )
            else:
                size = readable_size(file.size)
                tables[table] = AdoptedFile(source_file=name, rows=file.rows, file_size=size)
        if not errors and not self._parameters.dry_run:
            try:
                self._write_manifest(directory, task_id, stamp, files)
            except BackupError as error:
                errors.append(error)
        adopted: Literal["adoptable", "adopted"]
        adopted = "adoptable" if self._parameters.dry_run else "adopted"
        pair = AdoptedPair(
            task_id=task_id,
            backup_path=directory.location,
            timestamp=stamp,
            state="not_adopted" if errors else adopted,
            tables=tables,
        )
        return pair, next(iter(errors), None)

    def _write_manifest(
        self,
        directory: BackupDirectory,
        task_id: str | None,
        stamp: str,
        files: Mapping[str, OlderFile],
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
            tables=[_table(table, file) for table, file in files.items()],
            dependencies=(),
            truncate="none",
            truncated_tables=[],
            result=BackupResult(
                backup_performed=True,
                truncate_performed=False,
                backup_directory=directory.location,
                tables_backed_up={
                    table: ExportedTable(
                        row_count=file.rows,
                        file_size=readable_size(file.size),
                        backup_file=file.name,
                        duration=0.0,
                    )
                    for table, file in files.items()
                },
                timestamp=created_at,
            ),
            origin=OLDER_SYSTEM,
        )
        name = manifest_name(stamp)
        directory.delete(name + PENDING_SUFFIX)  # Of an adoption that was killed.
        with directory.create(name) as file:
            file.write(manifest.to_json(directory.manifest_key))
            file.commit()

    def _write_log(
        self, directory: BackupDirectory, pairs: list[AdoptedPair], errors: list[BackupError]
    ) -> None:
        lines = [
            f"Run: {self._run_id}",
            *(line for pair in pairs for line in pair_lines(pair)),
            *error_lines([error_line(error) for error in errors]),
        ]
        outcome = "FAILED" if errors else "SUCCESS"
        try:
            directory.append(LOG_NAME, section("adopt", self._began_at, outcome, lines))
        except BackupError as error:
            self._notices.append(f"The log was not written: {error.message}")

    def result(self) -> AdoptResult:
        if not self.pairs:
            self._notices.append("Nothing to adopt: there is no adoptable pair of files.")
        return AdoptResult(
            adopt_performed=any(pair.state == "adopted" for pair in self.pairs),
            dry_run=self._parameters.dry_run,
            pairs=self.pairs,
            notices=self._notices,
            errors=[error_line(error) for error in self.errors],
            duration=round(time.monotonic() - self._started, 3),
            timestamp=self._began_at,
        )


def pair_lines(pair: AdoptedPair) -> list[str]:
    """A pair as people read it: its state, its files, and their unreadable rows."""
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


def _table(table: str, file: OlderFile) -> TableBackup:
    columns = list(file.columns)
    return TableBackup(
        table=table,
        schema_name="public",
        name=table,
        oid=None,
        relations=[],
        columns=columns,
        file=DataFile(
            name=file.name,
            format="csv",
            compression="none",
            rows=file.rows,
            bytes=file.size,
            sha256=file.sha256,
            digest=Digest(columns=columns, value=None),
            duration=0.0,
            blocks=[],
        ),
        error=None,
        definition=None,
    )
