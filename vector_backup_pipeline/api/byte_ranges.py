"""Conditional and range requests (RFC 9110, sections 13 and 14).

Our entity tags are strong: `"…"`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from vector_backup_pipeline.api.errors import RangeNotSatisfiable

# One range. A list may have empty elements and blanks.
_ONE_RANGE = re.compile(
    r"bytes=[ \t,]*(?:(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+))[ \t,]*",
    re.IGNORECASE,
)
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# No file is that large, and Python reads no number of thousands of digits.
_MOST_DIGITS = len(str(sys.maxsize)) - 1


@dataclass(frozen=True)
class ByteRange:
    """The bytes `first` to `last` of a file, counted from 0, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def content_range(self, size: int) -> str:
        return f"bytes {self.first}-{self.last}/{size}"


def is_known(headers: Mapping[str, str], e_tag: str) -> bool:
    """Whether the client already has this version (`If-None-Match`)."""
    known = headers.get("if-none-match", "").strip()
    return known == "*" or e_tag in _ENTITY_TAG.findall(known)


def requested_range(headers: Mapping[str, str], size: int, e_tag: str) -> ByteRange | None:
    """The requested range of a file of `size` bytes. None means the whole file: no, several or
    invalid ranges, or an `If-Range` with another version.

    Raises:
        RangeNotSatisfiable: the range contains no byte of the file.
    """
    asked = _ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or headers.get("if-range", e_tag).strip() != e_tag:
        return None
    if asked["suffix"] is not None:
        return _last_bytes(_number(asked["suffix"]), size)
    first = _number(asked["first"])
    last = _number(asked["last"]) if asked["last"] else sys.maxsize
    if last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable(size)
    return ByteRange(first, min(last, size - 1))


def _last_bytes(count: int, size: int) -> ByteRange | None:
    if count == 0:
        raise RangeNotSatisfiable(size)
    # Content-Range cannot describe an empty file.
    return ByteRange(max(0, size - count), size - 1) if size else None


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return sys.maxsize if len(significant) > _MOST_DIGITS else int(significant or "0")
