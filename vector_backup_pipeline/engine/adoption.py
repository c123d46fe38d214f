"""Adopts files of the older system: writes a manifest for each pair of files that can be read.

From then on the pair is a backup set like any other. The files themselves are not changed.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine import results
from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.catalog.claims import exclusive
from vector_backup_pipeline.engine.catalog.contents import read_contents
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
from vector_backup_pipeline.engine.file_names import ADOPT_MARKER, PENDING_SUFFIX, manifest_name
from vector_backup_pipeline.engine.manifest import (
    OLDER_SYSTEM,
    DataFile,
    Manifest,
    Server,
    TableBackup,
)
from vector_backup_pipeline.engine.older_system import examine_file
from vector_backup_pipeline.engine.report import error_lines
from vector_backup_pipeline.engine.runs import RunInParts
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.adopt import AdoptParameters

# LangChain's JSON columns. The files don't have the types of their columns.
_JSON_COLUMNS = ("cmetadata",)

# Nothing is known of the server that the rows came from.
_SERVER = Server(version="", version_num=0, encoding="UTF8", database=OLDER_SYSTEM)


@dataclass
class _Location:
    """A location, and what was found there so far."""

    directory: BackupDirectory
    task_id: str | None
    pairs: list[results.AdoptedPair] = field(default_factory=list)
    errors: list[BackupError] = field(default_factory=list)


class AdoptRun(RunInParts[results.AdoptResult, _Location]):
    """One adoption. A pair that cannot be read does not stop the others, nor does a location that
    fails. Each location has its own section in its log."""

    def __init__(self, parameters: AdoptParameters, root: BackupRoot, run_id: str) -> None:
        super().__init__(root, run_id)
        self.parameters = parameters

    def adopt(self) -> None:
        """Read the requested pairs, and write a manifest for each that can be read, unless it is a
        dry run.

        Raises:
            InvalidParams: the timestamp is malformed.
            ResourceNotFound: the root, the task's directory or a pair with that timestamp is
                missing.
        """
        stamp = self.parameters.timestamp
        check_timestamp(self._root.timestamps, stamp, may_be_latest=False)
        check_root(self._root)
        for task_id, directory in find_directories(self._root, self.parameters.task_id):
            location = self.parts[directory.location] = _Location(directory, task_id)
            try:
                self._adopt_in(location)
            except BackupError as error:
                location.errors.append(error)
        if not self._pairs:
            if stamp is not None and self.error is None:
                raise ResourceNotFound(
                    f"There is no pair of the older system's files with the timestamp {stamp} to "
                    "adopt. vector-backup list shows the state of files and sets."
                )
            self.notices.append("Nothing to adopt: there is no adoptable pair of files.")

    @property
    def _pairs(self) -> list[results.AdoptedPair]:
        return [pair for location in self.parts.values() for pair in location.pairs]

    def _adopt_in(self, location: _Location) -> None:
        directory = location.directory
        if not self._adoptable(directory):
            return  # Nothing is written where there is nothing to adopt.
        alone = exclusive(directory, ADOPT_MARKER, self._run_id, "adoption")
        with contextlib.nullcontext() if self.parameters.dry_run else alone:
            for stamp, names in self._adoptable(directory).items():
                self._adopt_pair(location, stamp, names)

    def _adoptable(self, directory: BackupDirectory) -> dict[str, Mapping[str, str]]:
        """The file names of each requested pair, by timestamp and table."""
        contents = read_contents(directory)
        requested = self.parameters.timestamp
        stamps = sorted(contents.data_files) if requested is None else [requested]
        return {stamp: pair for stamp in stamps if (pair := contents.adoptable_pair(stamp))}

    def _adopt_pair(self, location: _Location, stamp: str, names: Mapping[str, str]) -> None:
        directory = location.directory
        files: dict[str, DataFile] = {}
        tables: dict[str, results.ReadableFile | results.UnreadableFile] = {}
        errors: list[BackupError] = []
        for table, name in names.items():
            older = None
            try:
                older = examine_file(directory, name, _JSON_COLUMNS)
                older.check_readable(directory)
            except BackupError as error:
                errors.append(error)
                tables[table] = results.UnreadableFile(
                    source_file=name,
                    error_type=error.error_type,
                    error=error.message,
                    unreadable_count=older.unreadable_count if older else 0,
                    unreadable_rows=older.unreadable if older else [],
                )
            else:
                file = files[table] = older.file
                size = results.readable_size(file.bytes)
                tables[table] = results.ReadableFile(
                    source_file=name, rows=file.rows, file_size=size
                )
        dry_run = self.parameters.dry_run
        try:
            if not errors and not dry_run:
                self._write_manifest(location, stamp, files)
        except BackupError as error:
            errors.append(error)
        location.errors += errors[:1]
        pair = results.AdoptedPair(
            task_id=location.task_id,
            backup_path=directory.location,
            timestamp=stamp,
            state="not_adopted" if errors else "adoptable" if dry_run else "adopted",
            tables=tables,
        )
        location.pairs.append(pair)

    def _write_manifest(
        self, location: _Location, stamp: str, files: Mapping[str, DataFile]
    ) -> None:
        directory = location.directory
        created_at = directory.timestamps.moment(stamp)
        manifest = Manifest(
            tool_version=__version__,
            complete=True,
            timestamp=stamp,
            created_at=created_at,
            task_id=location.task_id,
            run_id=self._run_id,
            export_method=OLDER_SYSTEM,
            workers=1,
            server=_SERVER,
            snapshot="",
            tables=[
                TableBackup(
                    table=table,
                    schema_name="public",
                    name=table,
                    columns=file.digest.columns,
                    file=file,
                )
                for table, file in files.items()
            ],
            result=results.BackupResult(
                backup_performed=True,
                backup_directory=directory.location,
                tables_backed_up={table: file.exported(file.rows) for table, file in files.items()},
                timestamp=created_at,
            ),
            origin=OLDER_SYSTEM,
        )
        name = manifest_name(stamp)
        directory.delete(name + PENDING_SUFFIX)  # Of an adoption that was killed.
        directory.replace(name, manifest.to_json(directory.manifest_key))

    def _end(self) -> None:
        """Append to the log of each location where a pair was found."""
        for location in self.parts.values():
            if location.pairs and not self.parameters.dry_run:
                lines = [line for pair in location.pairs for line in pair_lines(pair)]
                lines += error_lines(list(map(results.error_line, location.errors)))
                failed = bool(location.errors)
                self._append_to_log(location.directory, "adopt", lines, failed=failed)

    def _make_result(self) -> results.AdoptResult:
        errors = [error for location in self.parts.values() for error in location.errors]
        return results.AdoptResult(
            adopt_performed=any(pair.state == "adopted" for pair in self._pairs),
            dry_run=self.parameters.dry_run,
            pairs=self._pairs,
            **dict(self._common_fields(list(map(results.error_line, errors)))),
        )


def pair_lines(pair: results.AdoptedPair) -> list[str]:
    """The lines that describe a pair: its state, its files, and their unreadable rows."""
    mark = "✗" if pair.state == "not_adopted" else "✓"
    state = pair.state.replace("_", " ")
    lines = [f"{mark} {pair.timestamp} in {pair.backup_path}: {state}"]
    for table, file in pair.tables.items():
        if isinstance(file, results.ReadableFile):
            rows = f"{file.rows} rows in {file.source_file} ({file.file_size})"
            lines.append(f"  ✓ {table}: {rows}")
        else:
            lines.append(f"  ✗ {table}: {file.error}")
            lines += [f"    line {row.line}: {row.reason}" for row in file.unreadable_rows]
            if (more := file.unreadable_count - len(file.unreadable_rows)) > 0:
                lines.append(f"    and {more} more")
    return lines
