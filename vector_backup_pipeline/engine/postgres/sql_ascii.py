"""Text of SQL_ASCII databases, whose bytes may be in any encoding.

The codec reads UTF-8 where the bytes are UTF-8 and keeps all others, so text that is read and
written again is the same bytes.
"""

from __future__ import annotations

import codecs
import functools
from typing import TYPE_CHECKING

from psycopg2 import extensions

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ENCODING = "SQL_ASCII"
# How bytes that are not UTF-8 appear in text, and become bytes again.
_KEEP_BYTES = "surrogateescape"
_CODEC = "vector_backup_sql_ascii"


@functools.cache
def register_codec() -> None:
    """Let psycopg2 use the codec instead of `ascii`, of which it is a superset."""
    codec = codecs.CodecInfo(_encode, _decode, name=_CODEC)
    codecs.register(lambda name: codec if name == _CODEC else None)
    # By the name that psycopg2 looks up, without the underscore.
    extensions.encodings["SQLASCII"] = extensions.encodings[ENCODING] = _CODEC


def _encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    return text.encode(errors=_KEEP_BYTES if errors == "strict" else errors), len(text)


def _decode(data: ReadableBuffer, errors: str = "strict") -> tuple[str, int]:
    encoded = bytes(data)
    # Messages are decoded with "replace": they are only shown.
    return encoded.decode(errors=_KEEP_BYTES if errors == "strict" else errors), len(encoded)
