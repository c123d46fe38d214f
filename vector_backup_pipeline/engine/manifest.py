"""The manifest: the file whose existence makes a backup set, and all that restore needs to know."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationError

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.parameters import Compression, Format
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.table_definition import Dependencies, TableDefinition

SCHEMA_VERSION = 1

# Stands where the checksum does while it is taken.
_NO_CHECKSUM = "0" * 64
_CHECKSUM = re.compile(rb'"checksum": ?"([0-9a-f]{64})"\s*}\s*\Z')

TruncateState = Literal["none", "pending", "done", "not_truncated", "unknown"]


class Digest(Record):
    """The sum modulo 2^128 of xxh3-128 over every row's bytes: independent of the rows' order.

    `encoding` says which bytes, over `columns` in their order: for `csv` the record without its
    line end, for `binary` the tuple; never header or trailer. `value` is 32 hexadecimal digits.
    """

    algorithm: Literal["xxh3_128_sum"] = "xxh3_128_sum"
    encoding: Format = "csv"
    columns: list[str]
    value: str


class Block(Record):
    """A run of whole rows in the stored file: bytes `offset` to `offset + length`. In a compressed
    file, whole frames."""

    offset: int
    length: int
    rows: int


def check_bare(name: str) -> str:
    """A file of the set's own directory, and of no other."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("is no plain file name")
    return name


class DataFile(Record):
    """A stored table. `sha256` is of the stored bytes, `duration` in seconds."""

    name: Annotated[str, AfterValidator(check_bare)]
    format: Format
    compression: Compression
    rows: int
    bytes: int
    sha256: str
    digest: Digest
    duration: float
    blocks: list[Block]


class Relation(Record):
    """A relation that rows were read from: the table, or a leaf partition. Sizes in bytes."""

    schema_name: str
    name: str
    oid: int
    relfilenode: int | None
    size: int


class TableBackup(Record):
    """A table of the set; `file` is None when its export failed (`error` says why)."""

    table: str
    schema_name: str
    name: str
    oid: int
    relations: list[Relation]
    columns: list[str]
    file: DataFile | None
    error: str | None
    definition: TableDefinition


class Server(Record):
    """The server that the rows came from. `system_identifier` tells clusters apart."""

    version: str
    version_num: int
    encoding: str
    database: str
    system_identifier: str | None
    timeline: int | None
    in_recovery: bool
    pgvector_version: str | None


class Manifest(Record):
    """One backup set. `complete` is False when a table of the run failed.

    `builds_on` is the timestamp of the set whose rows this one needs beside its own; None for a set
    that stands alone, as all of this version do.

    `checksum` is the last field: the SHA-256 of the stored manifest itself, with 64 zeros in its
    place. Manifests of the first version have none.
    """

    schema_version: Literal[1] = 1
    tool: Literal["vector_backup_pipeline"] = "vector_backup_pipeline"
    tool_version: str
    complete: bool
    timestamp: str
    created_at: datetime
    task_id: str | None
    run_id: str
    export_method: str
    workers: int
    server: Server
    snapshot: str
    tables: list[TableBackup]
    dependencies: Dependencies
    truncate: TruncateState
    truncated_tables: list[str]
    result: BackupResult
    builds_on: str | None = None
    checksum: str | None = None

    def to_json(self) -> bytes:
        """The bytes to store, with their checksum."""
        bare = self.model_copy(update={"checksum": _NO_CHECKSUM})
        data = bare.model_dump_json(indent=1).encode() + b"\n"
        begin, _, end = data.rpartition(_NO_CHECKSUM.encode())
        return begin + hashlib.sha256(data).hexdigest().encode() + end


def read_manifest(data: bytes, name: str) -> Manifest:
    """Parse a stored manifest.

    Raises:
        IntegrityError: it is not one, is of a version this tool does not know, or was changed
            after it was written.
    """
    is_proven = _check_checksum(data, name)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise IntegrityError(
            f"The manifest {name} is damaged or was written by another version of this tool: "
            f"{error.error_count()} field(s) do not fit, first {error.errors()[0]['loc']}."
        ) from error
    if manifest.checksum is not None and not is_proven:
        raise _was_changed(name)
    return manifest


def _check_checksum(data: bytes, name: str) -> bool:
    """Whether a checksum stands where it belongs; it is over the bytes, whatever their fields."""
    found = _CHECKSUM.search(data)
    if found is None:
        return False
    bare = data[: found.start(1)] + _NO_CHECKSUM.encode() + data[found.end(1) :]
    if hashlib.sha256(bare).hexdigest().encode() != found[1]:
        raise _was_changed(name)
    return True


def _was_changed(name: str) -> IntegrityError:
    return IntegrityError(
        f"The manifest {name} was changed after it was written: its checksum does not fit. Check "
        "the disk, and use another set."
    )
