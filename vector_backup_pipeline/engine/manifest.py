"""The manifest: the file whose existence makes a backup set, and all that a restore needs."""

import hashlib
import hmac
import json
import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vector_backup_pipeline.engine.encryption import EncryptionFormat
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.manifest_schema_1 import converted_from_schema_1
from vector_backup_pipeline.engine.manifest_statements import UnexpectedStatement, check_statements
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import BackupResult, ExportedTable, readable_size
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.table_definition import Dependency, TableDefinition
from vector_backup_pipeline.parameters.types import Compression, Format

OLDER_SYSTEM: Literal["older_system"] = "older_system"

# Characters of an unexpected statement that an error shows.
_SHOWN = 200
# Replaces the signature and the checksum while they are computed.
_BLANK = "0" * 64
_SEALS = re.compile(
    rb'(?:"signature": ?(?:null|"(?P<signature>[0-9a-f]{64})"),\s*)?'
    rb'"checksum": ?"(?P<checksum>[0-9a-f]{64})"\s*}\s*\Z'
)
# They are the end of a manifest that may be many MB.
_SEALS_BYTES = 256

TruncateState = Literal["none", "pending", "done", "not_truncated", "unknown"]


class Digest(Record):
    """The sum modulo 2^128 of xxh3-128 over the bytes of every row, so the rows' order is free.

    The bytes are those of `columns` in their order: a `csv` record without its line end, or a
    `binary` tuple. `value` is 32 hexadecimal digits; None for a file of the older system.
    """

    algorithm: Literal["xxh3_128_sum"] = "xxh3_128_sum"
    encoding: Format = "csv"
    columns: list[str]
    value: str | None


class Block(Record):
    """Consecutive whole rows, and whole frames if the file is compressed. In bytes."""

    offset: int
    length: int
    rows: int


def check_bare(name: str) -> str:
    """The name must be that of a file in the set's own directory."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("is not a plain file name")
    return name


BareName = Annotated[str, AfterValidator(check_bare)]


class DataFile(Record):
    """A stored table. `bytes` and `sha256` are of the stored bytes, `duration` is in seconds.

    If it is encrypted, `plain_bytes` is its size before, and the blocks are in what it was before.
    """

    name: BareName
    format: Format
    compression: Compression
    rows: int
    bytes: int
    sha256: str
    digest: Digest
    duration: float
    blocks: list[Block]
    encryption: EncryptionFormat | None = None
    plain_bytes: int | None = None

    @property
    def plain_size(self) -> int:
        """Its size in bytes before encryption."""
        return self.bytes if self.plain_bytes is None else self.plain_bytes

    @property
    def has_digest(self) -> bool:
        return self.digest.value is not None

    def exported(self, rows: int) -> ExportedTable:
        """The result of a table whose file it is, and that has so many rows."""
        return ExportedTable(
            row_count=rows,
            file_size=readable_size(self.bytes),
            backup_file=self.name,
            duration=self.duration,
        )


class Relation(Record):
    """A relation that rows were read from: the table, or a leaf partition. Sizes in bytes."""

    schema_name: str
    name: str
    oid: int
    relfilenode: int | None
    size: int


class KeyFile(Record):
    """The primary keys of a table's live rows, each with the digest of its row and the timestamp of
    the set whose file contains the row. `columns` are those of the primary key.

    `scanned_sha256` is of the keys as the server sent them, in the order of the table's blocks, or
    None: equal ones are the same keys.
    """

    name: BareName
    columns: list[str]
    rows: int
    bytes: int
    sha256: str
    scanned_sha256: str | None = None
    encryption: EncryptionFormat | None = None


class TableBackup(Record):
    """A table of the set. `file` is None if its export failed; `error` is the reason.

    The file of an incremental table contains the rows that have changed since the set `builds_on`;
    `live_rows` and `live_digest` are those of the table. `full_reason` says why a table is full
    although the run was not to be. The older system kept no `oid` and `definition`.
    """

    table: str
    schema_name: str
    name: str
    oid: int | None = None
    relations: list[Relation] = Field(default_factory=list)
    columns: list[str]
    file: DataFile | None
    error: str | None = None
    definition: TableDefinition | None = None
    keys: KeyFile | None = None
    builds_on: str | None = None
    live_rows: int | None = None
    live_digest: str | None = None
    full_reason: str | None = None

    @property
    def stored(self) -> list[DataFile | KeyFile]:
        """The table's own files."""
        return [file for file in (self.file, self.keys) if file]

    @property
    def rows(self) -> int:
        """The number of live rows; 0 if the export failed."""
        if self.live_rows is not None:
            return self.live_rows
        return 0 if self.file is None else self.file.rows

    @property
    def digest(self) -> str | None:
        """The content digest of all live rows."""
        if self.live_digest is not None:
            return self.live_digest
        return None if self.file is None else self.file.digest.value


class Server(Record):
    """The source server. `system_identifier` tells clusters apart, `database_oid` databases that
    had the same name one after the other, `started_at` the times before and after a restart."""

    version: str
    version_num: int
    encoding: str
    database: str
    system_identifier: str | None = None
    timeline: int | None = None
    in_recovery: bool = False
    pgvector_version: str | None = None
    database_oid: int | None = None
    started_at: datetime | None = None


class Manifest(Record):
    """One backup set. `complete` is False if a table of the run failed.

    `builds_on` is the timestamp of the set whose rows this one needs too; None for a full set.
    `can_be_base`: an incremental backup may build on the set. False if a crash of the server could
    have lost transactions that are in it, or if it has no key files.
    `origin` is "older_system" for a set made by `vector-backup adopt`, whose `server.database` is
    `OLDER_SYSTEM` too, since nothing is known of its server.

    `signature` and `checksum` come last. `checksum` is the SHA-256 of the stored manifest with 64
    zeros in its place; `signature`, if there is a key, the HMAC-SHA256 with 64 zeros in place of
    both.
    """

    schema_version: Literal[2] = 2
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
    snapshot: str = Field(pattern=r"^([0-9]+:[0-9]+:[0-9,]*)?$")
    tables: list[TableBackup]
    dependencies: tuple[Dependency, ...] = ()
    truncate: TruncateState = "none"
    truncated_tables: list[str] = Field(default_factory=list)
    result: BackupResult
    builds_on: str | None = None
    can_be_base: bool = False
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
    """Parse a stored manifest. With a `key`, it must be signed with that key. Raises
    `IntegrityError` if it is not a manifest, is of an unknown version, was changed after it was
    written, is not signed, or contains a statement that no backup writes."""
    seals = _find_seals(data)
    if seals is not None:
        _check_seals(data, seals, name, key)
    try:
        document = json.loads(data)
        if document["schema_version"] == 1:
            document = converted_from_schema_1(document)
        manifest = Manifest.model_validate(document)
        if seals is None:
            raise _was_changed(name, "it has no checksum")
        check_statements(manifest.definitions, manifest.dependencies)
    except UnexpectedStatement as error:
        raise IntegrityError(
            f"The manifest {name} contains a statement that no backup writes: "
            f"{error.sql[:_SHOWN]!r}. Nothing of it was run. Somebody changed the manifest: find "
            "out who can write to the backup directory, and use another set."
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"The manifest {name} is damaged or was written by another version of this tool. Use "
            "another set."
        ) from error
    return manifest


def _check_seals(data: bytes, seals: re.Match[bytes], name: str, key: SecretText | None) -> None:
    """Check the bytes before they are parsed."""
    without_checksum = _with(data, "checksum", _BLANK)
    if hashlib.sha256(without_checksum).hexdigest().encode() != seals["checksum"]:
        raise _was_changed(name, "its checksum does not match")
    if key is None:
        return
    if seals["signature"] is None:
        raise IntegrityError(
            f"The manifest {name} is not signed, and VECTOR_BACKUP_MANIFEST_KEY is set. Anyone who "
            "can write to the backup directory may have written it. Use a signed set, or unset the "
            "variable for this set if you trust it."
        )
    unsigned = _with(without_checksum, "signature", _BLANK)
    if not hmac.compare_digest(_hmac(key, unsigned).encode(), seals["signature"]):
        raise IntegrityError(
            f"The signature of the manifest {name} does not match VECTOR_BACKUP_MANIFEST_KEY: the "
            "manifest was changed or signed with a different key. Check it, or use another set."
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
