"""Backup sets as files for the catalog, written without a server."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import xxhash

from vector_backup_pipeline.engine.adoption import AdoptRun
from vector_backup_pipeline.engine.catalog.choice import choose_set
from vector_backup_pipeline.engine.catalog.contents import BackupSet, ManifestSet, read_contents
from vector_backup_pipeline.engine.file_names import (
    data_file_name,
    manifest_name,
    marker_name,
    verdict_name,
)
from vector_backup_pipeline.engine.formats.compression import codec
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.manifest import (
    Block,
    DataFile,
    Digest,
    Manifest,
    Server,
    TableBackup,
    TruncateState,
)
from vector_backup_pipeline.engine.results import BackupResult, ExportedTable, FailedTable
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.run_markers import RunMarker
from vector_backup_pipeline.engine.table_definition import TableDefinition
from vector_backup_pipeline.parameters.adopt import AdoptParameters
from vector_backup_pipeline.parameters.types import Compression, Format

COLLECTION, EMBEDDING = "langchain_pg_collection", "langchain_pg_embedding"
TABLES = {COLLECTION: 4, EMBEDDING: 58}
_COLUMNS = ["id", "document"]
DEFINITION = TableDefinition(
    schema_name="public", name="t", owner="owner", columns=(), primary_key=()
)


@dataclass(frozen=True)
class SetWriter:
    """Writes sets into `path`. Tables are given as `name` or `schema.name`, with their rows."""

    path: Path

    @property
    def directory(self) -> BackupDirectory:
        self.path.mkdir(parents=True, exist_ok=True)
        return BackupDirectory(LocalStore(self.path))

    def write(
        self,
        stamp: str,
        tables: Mapping[str, int] = TABLES,
        *,
        created_at: datetime | None = None,
        failed: Sequence[str] = (),
        truncate: TruncateState = "none",
        truncated: Sequence[str] = (),
        builds_on: str | None = None,
        database: str = "d",
        server: str | None = None,
    ) -> Manifest:
        """A set with a manifest, complete unless tables `failed`, of that database and server."""
        moment = datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=timezone.utc)
        manifest = Manifest(
            tool_version="1",
            complete=not failed,
            timestamp=stamp,
            created_at=created_at or moment,
            task_id=None,
            run_id="run",
            export_method="copy",
            workers=1,
            server=_SERVER.model_copy(update={"database": database, "system_identifier": server}),
            snapshot="1:1:",
            tables=[self._table(table, rows, stamp) for table, rows in tables.items()],
            dependencies=(),
            truncate=truncate,
            truncated_tables=list(truncated),
            result=_result(moment, list(tables), failed),
            builds_on=builds_on,
        )
        (self.path / manifest_name(stamp)).write_bytes(manifest.to_json())
        return manifest

    def older(
        self, stamp: str, tables: Mapping[str, int] = TABLES, line_end: bytes = b"\r\n"
    ) -> None:
        """Files of the older system."""
        for table, rows in tables.items():
            self.file(
                f"{table}_{stamp}.csv", line_end.join([b"id,document", *[b"1,text"] * rows, b""])
            )

    def adopt(self) -> None:
        """Make sets of all of the older system's pairs."""
        root = BackupRoot(str(self.path.parent), self.path.name)
        run = AdoptRun(AdoptParameters(all_pairs=True), root, "adopts")
        run.adopt()
        assert run.error is None

    def file(self, name: str, data: bytes = b"id,document\n1,text\n") -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(data)

    def damaged(self, stamp: str, text: str = "{") -> None:
        """A set with a data file and an unreadable manifest."""
        self.file(manifest_name(stamp), text.encode())
        self.file(f"{EMBEDDING}_{stamp}.csv")

    def verdict(self, stamp: str, *, files_passed: bool = True, drill: bool | None = None) -> None:
        """The verdict of a verification beside a set."""
        kept = {
            "verified_at": "2026-01-01T00:00:00Z",
            "files_passed": files_passed,
            "passed": files_passed and drill is not False,
            "drill": None if drill is None else {"passed": drill},
        }
        self.file(verdict_name(stamp), json.dumps(kept).encode())

    def running(self, stamp: str) -> RunMarker:
        """A live run's marker; the caller releases it."""
        claim = self.directory.claim(marker_name(stamp), "r")
        assert claim is not None
        return claim

    def _table(self, table: str, rows: int, stamp: str) -> TableBackup:
        schema, _, name = table.rpartition(".")
        file = data_file_name(schema or "public", name, stamp, "csv")
        records = [csv_record([str(row), "text, and more"]) for row in range(rows)]
        return TableBackup(
            table=table,
            schema_name=schema or "public",
            name=name,
            oid=1,
            relations=[],
            columns=_COLUMNS,
            file=stored_file(self.path / file, _COLUMNS, records),
            error=None,
            definition=DEFINITION,
        )


def sealed(document: Mapping[str, object]) -> bytes:
    """A manifest of the contents of `document`, with a valid checksum."""
    blank = "0" * 64
    data = json.dumps({**document, "checksum": blank}).encode()
    return data.replace(blank.encode(), hashlib.sha256(data).hexdigest().encode())


def read_sets(directory: BackupDirectory) -> list[BackupSet]:
    """All sets of a directory, oldest first by their creation in UTC; damaged ones too."""
    sets = read_contents(directory).sets()
    return sorted(sets, key=lambda stored_set: (stored_set.created_at, stored_set.stamp))


def find_set(directory: BackupDirectory, timestamp: str) -> ManifestSet:
    """The set that a restore would choose without asking the target."""
    return choose_set(directory, timestamp, None).backup


def stored_file(
    path: Path,
    columns: Sequence[str],
    records: Sequence[bytes],
    rows_a_block: int = 1000,
    form: Format = "csv",
    compression: Compression = "none",
) -> DataFile:
    """Write a data file of `records`; returns its manifest entry."""
    rows = row_format(form)
    pack = codec(compression).make_pack(None)
    data = pack(rows.header(columns))
    digest = sum(xxhash.xxh3_128_intdigest(r[: len(r) - rows.line_end]) for r in records)
    blocks = []
    for begin in range(0, len(records), rows_a_block):
        part = records[begin : begin + rows_a_block]
        stored = pack(b"".join(part))
        blocks.append(Block(offset=len(data), length=len(stored), rows=len(part)))
        data += stored
    if rows.trailer:
        data += pack(rows.trailer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return DataFile(
        name=path.name,
        format=form,
        compression=compression,
        rows=len(records),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        digest=Digest(encoding=form, columns=list(columns), value=f"{digest % 2**128:032x}"),
        duration=0.1,
        blocks=blocks,
    )


def _result(moment: datetime, tables: Sequence[str], failed: Sequence[str]) -> BackupResult:
    good: dict[str, ExportedTable | FailedTable] = {
        table: ExportedTable(row_count=1, file_size="1.0 B", backup_file=table, duration=0.1)
        for table in tables
    }
    bad = {
        table: FailedTable(error_type="TABLE_NOT_FOUND", error="it is gone", duration=0.1)
        for table in failed
    }
    return BackupResult(
        backup_performed=not failed,
        truncate_performed=False,
        backup_directory=None,
        tables_backed_up={**good, **bad},
        truncate_results={},
        errors=[],
        duration=0.1,
        timestamp=moment,
    )


_SERVER = Server(
    version="18.0",
    version_num=180000,
    encoding="UTF8",
    database="d",
    system_identifier=None,
    timeline=None,
    in_recovery=False,
    pgvector_version=None,
)
