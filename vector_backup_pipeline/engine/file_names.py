"""The names of a backup set's files, and how to know them again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote

from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import Compression, Format

LOG_NAME = "vector_backup_log.txt"
PENDING_SUFFIX = ".tmp"

_MANIFEST_PREFIX, _MANIFEST_SUFFIX = "vector_backup_", ".json"
_VERDICT_SUFFIX = ".verified.json"
_TOMBSTONE_SUFFIX = ".tombstone.json"
_MARKER_PREFIX, _MARKER_SUFFIX = ".vector_backup_", ".run"
_MARKER_TOKEN = re.compile(r"(?:(?<=\.run)|(?<=\.reading))\.[0-9a-f]{32}\Z")
_FORMAT_EXTENSIONS: Mapping[Format, str] = {"csv": "csv", "binary": "pgcopy"}
_COMPRESSION_EXTENSIONS: Mapping[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_DATA_EXTENSIONS = tuple(
    each + packed
    for each in _FORMAT_EXTENSIONS.values()
    for packed in _COMPRESSION_EXTENSIONS.values()
)
_READING_SUFFIX = ".reading"
# Of the one prune that may work in a directory at a time; "prune" is no timestamp.
PRUNE_MARKER = f"{_MARKER_PREFIX}prune{_MARKER_SUFFIX}"
# Of the one adoption that may work in a directory at a time.
ADOPT_MARKER = f"{_MARKER_PREFIX}adopt{_MARKER_SUFFIX}"
_READING = re.compile(r"_[0-9a-f]{8}\.reading\Z")
_LIKE_A_DATA_FILE = re.compile(
    rf".+_[^.]*[0-9][^.]*\.(?:{'|'.join(map(re.escape, _DATA_EXTENSIONS))})"
)
# File systems take 255 bytes; timestamp, extensions and `.tmp` need room too. A name in schema
# `public`, 63 bytes at most, always fits, also percent-encoded.
_LONGEST_NAME = 190
_HASH_LENGTH = 16
# What a file name can't hold, or what would leave the directory or hide the file.
_UNSAFE = re.compile(r"[/\\%\x00-\x1f\x7f-\x9f]|^\.+")


def data_extension(form: Format, compression: Compression) -> str:
    """`csv`, `csv.zst`, `pgcopy.gz` and so on."""
    return _FORMAT_EXTENSIONS[form] + _COMPRESSION_EXTENSIONS[compression]


def data_file_name(schema: str, table: str, stamp: str, extension: str) -> str:
    """`{table}_{stamp}.{extension}`, with `{schema}.` before it outside schema `public`."""
    name = table if schema == "public" else f"{schema}.{table}"
    return f"{_encoded(name)}_{stamp}.{extension}"


def manifest_name(stamp: str) -> str:
    return f"{_MANIFEST_PREFIX}{stamp}{_MANIFEST_SUFFIX}"


def verdict_name(stamp: str) -> str:
    """Of what a verification found, beside the set's manifest."""
    return f"{_MANIFEST_PREFIX}{stamp}{_VERDICT_SUFFIX}"


def tombstone_name(stamp: str) -> str:
    """Of what says that the set is being removed, and which files that takes."""
    return f"{_MANIFEST_PREFIX}{stamp}{_TOMBSTONE_SUFFIX}"


def reading_name(stamp: str, run_id: str) -> str:
    """Of the marker of a run that reads the set."""
    run = hashlib.sha256(run_id.encode()).hexdigest()[:8]
    return f"{_MARKER_PREFIX}{stamp}_{run}{_READING_SUFFIX}"


def marker_name(stamp: str) -> str:
    return f"{_MARKER_PREFIX}{stamp}{_MARKER_SUFFIX}"


def stamp_of_manifest(name: str, timestamps: TimestampFormat) -> str | None:
    return _stamp_between(name, _MANIFEST_PREFIX, _MANIFEST_SUFFIX, timestamps)


def stamp_of_verdict(name: str, timestamps: TimestampFormat) -> str | None:
    return _stamp_between(name, _MANIFEST_PREFIX, _VERDICT_SUFFIX, timestamps)


def stamp_of_marker(name: str, timestamps: TimestampFormat) -> str | None:
    """Also of `{marker}.{token}`, as a store names it that can't create under a condition."""
    return _stamp_between(_MARKER_TOKEN.sub("", name), _MARKER_PREFIX, _MARKER_SUFFIX, timestamps)


def is_marker_of_file(marker: str, file: str) -> bool:
    """Whether `marker` is that of the run which writes `file`, however timestamps are written."""
    bare = _MARKER_TOKEN.sub("", marker)
    if not (bare.startswith(_MARKER_PREFIX) and bare.endswith(_MARKER_SUFFIX)):
        return False
    return f"_{bare[len(_MARKER_PREFIX) : -len(_MARKER_SUFFIX)]}." in file


def is_like_a_data_file(name: str) -> bool:
    """Whether it may be one of ours, for those who do not know how timestamps are written."""
    return _LIKE_A_DATA_FILE.fullmatch(name) is not None


def is_marker_of(name: str, stamp: str) -> bool:
    return _MARKER_TOKEN.sub("", name) == marker_name(stamp)


def stamp_of_tombstone(name: str, timestamps: TimestampFormat) -> str | None:
    return _stamp_between(name, _MANIFEST_PREFIX, _TOMBSTONE_SUFFIX, timestamps)


def stamp_of_reading(name: str, timestamps: TimestampFormat) -> str | None:
    """The stamp of the set that is being read; None for every other file."""
    name = _MARKER_TOKEN.sub("", name)
    if not _READING.search(name):
        return None
    return _stamp_between(
        _READING.sub(_READING_SUFFIX, name), _MARKER_PREFIX, _READING_SUFFIX, timestamps
    )


def stamp_of_data_file(name: str, timestamps: TimestampFormat) -> str | None:
    """The stamp of a finished data file; None for every other file."""
    for extension in _DATA_EXTENSIONS:
        if name.endswith("." + extension):
            return _stamp_after_underscore(name.removesuffix("." + extension), timestamps)
    return None


def table_of_data_file(name: str, stamp: str) -> str:
    """What stands before the stamp in a data file's name: the table's, if it was not encoded."""
    return name[: name.rindex(f"_{stamp}.")]


def stamp_of_pending(name: str, timestamps: TimestampFormat) -> str | None:
    """The stamp of a file that is still being written (`.tmp`); None for every other file."""
    if not name.endswith(PENDING_SUFFIX):
        return None
    final = name.removesuffix(PENDING_SUFFIX)
    for stamp_of in (stamp_of_manifest, stamp_of_verdict, stamp_of_data_file):
        if stamp := stamp_of(final, timestamps):
            return stamp
    return None


def _stamp_between(name: str, prefix: str, suffix: str, timestamps: TimestampFormat) -> str | None:
    if not (name.startswith(prefix) and name.endswith(suffix)):
        return None
    text = name[len(prefix) : -len(suffix)]
    return text if timestamps.is_stamp(text) else None


def _stamp_after_underscore(stem: str, timestamps: TimestampFormat) -> str | None:
    stamp = timestamps.at_end_of(stem)
    if stamp is None or not stem.removesuffix(stamp).endswith("_"):
        return None
    return stamp


def _encoded(name: str) -> str:
    """`name` as a file name; one that is too long is cut and ends in its hash instead."""
    encoded = _UNSAFE.sub(_percent, name)
    if len(encoded.encode()) <= _LONGEST_NAME:
        return encoded
    kept = encoded.encode()[: _LONGEST_NAME - _HASH_LENGTH - 1].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]}"


def _percent(match: re.Match[str]) -> str:
    # `quote` leaves dots alone, and a leading dot would hide the file.
    return quote(match.group(), safe="").replace(".", "%2E")
