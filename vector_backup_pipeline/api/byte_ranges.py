"""Which bytes of a file a request is about, by its headers: RFC 9110, sections 13 and 14.

Entity tags of ours are strong: `"…"`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from vector_backup_pipeline.api.errors import RangeNotSatisfiable

# One range. The elements of a list may be empty, and have blanks around them.
_ONE_RANGE = re.compile(
    r"bytes=[ \t,]*(?:(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+))[ \t,]*",
    re.IGNORECASE,
)
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# No file is that large, and Python reads no number of thousands of digits.
_MOST_DIGITS = len(str(sys.maxsize)) - 1


@dataclass(frozen=True)
class ByteRange:
    """A part of a file: `first` and `last` are its first and its last byte, from 0."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def content_range(self, size: int) -> str:
        return f"bytes {self.first}-{self.last}/{size}"


def is_known(headers: Mapping[str, str], e_tag: str) -> bool:
    """Whether the caller has this version already (`If-None-Match`)."""
    known = headers.get("if-none-match", "").strip()
    return known == "*" or e_tag in _ENTITY_TAG.findall(known)


def requested_range(headers: Mapping[str, str], size: int, e_tag: str) -> ByteRange | None:
    """The part of the file of `size` bytes that is asked for, None for all of it: also for several
    ranges, for what is no range, and where `If-Range` names another version.

    Raises:
        RangeNotSatisfiable: none of the file's bytes is in it.
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
    # Of an empty file that is all of it, which no Content-Range can say.
    return ByteRange(max(0, size - count), size - 1) if size else None


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return sys.maxsize if len(significant) > _MOST_DIGITS else int(significant or "0")
