"""The names of a backup set's files, and how to recognize them."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

from vector_backup_pipeline.engine.encryption import ENCRYPTED_SUFFIX
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import Compression, Format

LOG_NAME = "vector_backup_log.txt"
# What the alerts remember.
ALERTS_NAME = "vector_backup_alerts.json"
PENDING_SUFFIX = ".tmp"
# Held by a prune and by an adoption: only one of each may run in a directory at a time. Their names
# have no timestamp.
PRUNE_MARKER = ".vector_backup_prune.run"
ADOPT_MARKER = ".vector_backup_adopt.run"

_FORMAT_EXTENSIONS: Mapping[Format, str] = {"csv": "csv", "binary": "pgcopy"}
_COMPRESSION_EXTENSIONS: Mapping[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
KEYS_EXTENSION = "keys.parquet"
_PLAIN_EXTENSIONS = (
    *(
        extension + compressed
        for extension in _FORMAT_EXTENSIONS.values()
        for compressed in _COMPRESSION_EXTENSIONS.values()
    ),
    KEYS_EXTENSION,
)
_DATA_EXTENSIONS = (*_PLAIN_EXTENSIONS, *(e + ENCRYPTED_SUFFIX for e in _PLAIN_EXTENSIONS))
_READING = re.compile(r"(\.vector_backup_.+)_[0-9a-f]{8}\.reading")
# File systems take 255 bytes; timestamp, extensions and `.tmp` need room too. A name in schema
# `public`, 63 bytes at most, always fits, also percent-encoded.
_LONGEST_NAME = 190
_HASH_LENGTH = 16
# What a file name cannot contain, or what would leave the directory or hide the file.
_UNSAFE = re.compile(r"[/\\%\x00-\x1f\x7f-\x9f]|^\.+")


def data_extension(form: Format, compression: Compression) -> str:
    """`csv`, `csv.zst`, `pgcopy.gz` and so on."""
    return _FORMAT_EXTENSIONS[form] + _COMPRESSION_EXTENSIONS[compression]


def data_file_name(schema: str, table: str, stamp: str, extension: str) -> str:
    """`{table}_{stamp}.{extension}`, with `{schema}.` before it outside schema `public`."""
    name = table if schema == "public" else f"{schema}.{table}"
    return f"{_encoded(name)}_{stamp}.{extension}"


def manifest_name(stamp: str) -> str:
    return f"vector_backup_{stamp}.json"


def verdict_name(stamp: str) -> str:
    """The file with the result of a verification."""
    return f"vector_backup_{stamp}.verified.json"


def tombstone_name(stamp: str) -> str:
    """The file that lists what is being removed with a set."""
    return f"vector_backup_{stamp}.tombstone.json"


def marker_name(stamp: str) -> str:
    return f".vector_backup_{stamp}.run"


def reading_name(stamp: str, run_id: str) -> str:
    """The marker of a run that reads the set."""
    run = hashlib.sha256(run_id.encode()).hexdigest()[:8]
    return f".vector_backup_{stamp}_{run}.reading"


def is_announcement(name: str) -> bool:
    """Whether it is the object by which a process announces itself (see `object_store`)."""
    return re.search(r"\.[0-9a-f]{32}\.tmp\Z", name) is not None


def _stamp_between(prefix: str, suffix: str, name: str, timestamps: TimestampFormat) -> str | None:
    text = name.removeprefix(prefix).removesuffix(suffix)
    return text if name == f"{prefix}{text}{suffix}" and timestamps.is_stamp(text) else None


# Functions of a file's name and the timestamp format: its stamp, None for every other file.
stamp_of_manifest = partial(_stamp_between, "vector_backup_", ".json")
stamp_of_verdict = partial(_stamp_between, "vector_backup_", ".verified.json")
stamp_of_tombstone = partial(_stamp_between, "vector_backup_", ".tombstone.json")
stamp_of_marker = partial(_stamp_between, ".vector_backup_", ".run")


def stamp_of_reading(name: str, timestamps: TimestampFormat) -> str | None:
    """The stamp of the set that is being read; None for every other file."""
    match = _READING.fullmatch(name)
    return _stamp_between(".vector_backup_", "", match[1], timestamps) if match else None


def stamp_of_data_file(name: str, timestamps: TimestampFormat) -> str | None:
    """The stamp of a complete data file or key file; None for every other file."""
    for extension in _DATA_EXTENSIONS:
        stem = name.removesuffix(f".{extension}")
        stamp = timestamps.at_end_of(stem)
        if stem != name and stamp is not None and stem.removesuffix(stamp).endswith("_"):
            return stamp
    return None


def is_key_file(name: str) -> bool:
    return name.removesuffix(ENCRYPTED_SUFFIX).endswith(f".{KEYS_EXTENSION}")


def table_of_data_file(name: str, stamp: str) -> str:
    """The part before the stamp: the table's name, if it was not encoded."""
    return name[: name.rindex(f"_{stamp}.")]


def stamp_of_pending(name: str, timestamps: TimestampFormat) -> str | None:
    """The stamp of a file that is still being written (`.tmp`); None for every other file."""
    if not name.endswith(PENDING_SUFFIX):
        return None
    final = name.removesuffix(PENDING_SUFFIX)
    stamps_of = (stamp_of_manifest, stamp_of_verdict, stamp_of_data_file)
    return next((stamp for of in stamps_of if (stamp := of(final, timestamps))), None)


def _encoded(name: str) -> str:
    """`name` as a file name; one that is too long is cut and ends in its hash instead."""
    # `quote` leaves dots alone, and a leading dot would hide the file.
    encoded = _UNSAFE.sub(lambda match: quote(match[0], safe="").replace(".", "%2E"), name)
    if len(encoded.encode()) <= _LONGEST_NAME:
        return encoded
    kept = encoded.encode()[: _LONGEST_NAME - _HASH_LENGTH - 1].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]}"
