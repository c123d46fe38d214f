"""The manifest: the file whose existence makes a backup set, and all that restore needs to know."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationError

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.manifest_statements import unexpected_statements
from vector_backup_pipeline.engine.older_definitions import definition_as_written_today
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.table_definition import Dependencies, TableDefinition
from vector_backup_pipeline.parameters.types import Compression, Format

SCHEMA_VERSION = 1
OLDER_SYSTEM: Literal["older_system"] = "older_system"

# Of an unexpected statement: enough to find it.
_SHOWN = 200
# Stands in place of the signature and the checksum while they are computed.
_BLANK = "0" * 64
_SEALS = re.compile(
    rb'(?:"signature": ?(?:null|"(?P<signature>[0-9a-f]{64})"),\s*)?'
    rb'"checksum": ?"(?P<checksum>[0-9a-f]{64})"\s*}\s*\Z'
)
# They are the end of a manifest that may be many MB.
_SEALS_BYTES = 256

TruncateState = Literal["none", "pending", "done", "not_truncated", "unknown"]


class Digest(Record):
    """The sum modulo 2^128 of xxh3-128 over every row's bytes: independent of the rows' order.

    `encoding` says which bytes, over `columns` in their order: for `csv` the record without its
    line end, for `binary` the tuple; never header or trailer. `value` is 32 hexadecimal digits, or
    None for a file of the older system: PostgreSQL did not write its records.
    """

    algorithm: Literal["xxh3_128_sum"] = "xxh3_128_sum"
    encoding: Format = "csv"
    columns: list[str]
    value: str | None


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
    """A stored table. `sha256` is of the stored bytes, `duration` in seconds.

    A file of the older system has no digest value and no blocks.
    """

    name: Annotated[str, AfterValidator(check_bare)]
    format: Format
    compression: Compression
    rows: int
    bytes: int
    sha256: str
    digest: Digest
    duration: float
    blocks: list[Block]

    @property
    def has_digest(self) -> bool:
        return self.digest.value is not None


class Relation(Record):
    """A relation that rows were read from: the table, or a leaf partition. Sizes in bytes."""

    schema_name: str
    name: str
    oid: int
    relfilenode: int | None
    size: int


class TableBackup(Record):
    """A table of the set. `file` is None if its export failed (`error` says why).

    `oid` and `definition` are None for a file of the older system, which kept no definitions.
    """

    table: str
    schema_name: str
    name: str
    oid: int | None
    relations: list[Relation]
    columns: list[str]
    file: DataFile | None
    error: str | None
    definition: TableDefinition | None


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

    `origin` is "older_system" for a set that `vector-backup adopt` made of that system's files, and
    None for a backup. Such a set's `server.database` is `OLDER_SYSTEM` too: nothing is known of its
    server.

    `signature` and `checksum` are the last fields. `signature` is the HMAC-SHA256 of the stored
    manifest with 64 zeros in place of both, None without a key. `checksum` is the SHA-256 of the
    stored manifest with 64 zeros in its place.
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
    origin: Literal["older_system"] | None = None
    signature: str | None = None
    checksum: str | None = None

    @property
    def definitions(self) -> list[TableDefinition]:
        """Those of all tables that have one."""
        return [table.definition for table in self.tables if table.definition is not None]

    def to_json(self, key: SecretText | None = None) -> bytes:
        """The bytes to store, with their checksum; signed, if there is a key."""
        blanks = {"signature": None if key is None else _BLANK, "checksum": _BLANK}
        data = self.model_copy(update=blanks).model_dump_json(indent=1).encode() + b"\n"
        if key is not None:
            data = _with(data, "signature", _hmac(key, data))
        return _with(data, "checksum", hashlib.sha256(data).hexdigest())


def read_manifest(data: bytes, name: str, key: SecretText | None = None) -> Manifest:
    """Parse a stored manifest. With a `key`, it must be signed with that key.

    Raises:
        IntegrityError: It is not a manifest, is of an unknown version, was changed after it was
            written, is not signed, or holds a statement that no backup writes.
    """
    seals = _find_seals(data)
    if seals is not None:
        _check_seals(data, seals, name, key)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise IntegrityError(
            f"The manifest {name} is damaged or was written by another version of this tool: "
            f"{error.error_count()} field(s) do not fit, first {error.errors()[0]['loc']}."
        ) from error
    if seals is None:
        raise _was_changed(name, "it has no checksum")
    manifest = _as_written_today(manifest)
    _check_statements(manifest, name)
    return manifest


def _as_written_today(manifest: Manifest) -> Manifest:
    tables = [
        table
        if table.definition is None
        else table.model_copy(update={"definition": definition_as_written_today(table.definition)})
        for table in manifest.tables
    ]
    return manifest.model_copy(update={"tables": tables})


def _check_statements(manifest: Manifest, name: str) -> None:
    for found in unexpected_statements(manifest.definitions, manifest.dependencies):
        raise IntegrityError(
            f"The manifest {name} holds a statement that no backup writes, so nothing of it is "
            f"run: {found[:_SHOWN]!r}. Somebody changed the manifest. Find out who can write to "
            "the backup directory, and use another set."
        )


def _check_seals(data: bytes, seals: re.Match[bytes], name: str, key: SecretText | None) -> None:
    """Check checksum and signature over the bytes, before anything of them is parsed."""
    without_checksum = _with(data, "checksum", _BLANK)
    if hashlib.sha256(without_checksum).hexdigest().encode() != seals["checksum"]:
        raise _was_changed(name, "its checksum does not match")
    if key is None:
        return
    if seals["signature"] is None:
        raise IntegrityError(
            f"The manifest {name} is not signed, and VECTOR_BACKUP_MANIFEST_KEY is set. Anyone who "
            "can write to the backup directory may have written it. Use a signed set, or unset the "
            "variable for this one set if you know that you can trust it."
        )
    unsigned = _with(without_checksum, "signature", _BLANK)
    if not hmac.compare_digest(_hmac(key, unsigned).encode(), seals["signature"]):
        raise IntegrityError(
            f"The signature of the manifest {name} does not match VECTOR_BACKUP_MANIFEST_KEY: the "
            "manifest was changed, or was signed with another key. Check the key, or use another "
            "set."
        )


def _find_seals(data: bytes) -> re.Match[bytes] | None:
    return _SEALS.search(data, max(0, len(data) - _SEALS_BYTES))


def _with(data: bytes, field: str, value: str) -> bytes:
    """`data` with another value of the same length in one of its last two fields."""
    seals = _find_seals(data)
    if seals is None:
        raise ValueError("These bytes do not end in a checksum.")
    begin, end = seals.span(field)
    return data[:begin] + value.encode() + data[end:]


def _hmac(key: SecretText, data: bytes) -> str:
    # A variable of the environment may hold any bytes.
    secret = key.reveal().encode("utf-8", "surrogateescape")
    return hmac.new(secret, data, hashlib.sha256).hexdigest()


def _was_changed(name: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"The manifest {name} was changed after it was written: {reason}. Check the disk, and use "
        "another set."
    )
