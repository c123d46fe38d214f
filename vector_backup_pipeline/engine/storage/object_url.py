"""URLs of object storage: which bucket, and which key in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams

S3, GCS, AZURE = "s3", "gs", "az"
SCHEMES = (S3, GCS, AZURE)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# `?` and `#` begin what may hold a signature; the others no store takes, or none means.
_NO_PART_OF_A_KEY = re.compile(r"[?#\\\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ObjectUrl:
    """`{scheme}://{bucket}/{key}`; the key has no slash at its ends and may be empty."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, name: str) -> ObjectUrl:
        return ObjectUrl(self.scheme, self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def segments(self) -> tuple[str, ...]:
        """The bucket, and the parts of the key."""
        return (self.bucket, *(self.key.split("/") if self.key else ()))

    def with_segments(self, segments: tuple[str, ...]) -> ObjectUrl:
        return ObjectUrl(self.scheme, segments[0], "/".join(segments[1:]))


def is_url(text: str) -> bool:
    return "://" in text


def parse_object_url(text: str) -> ObjectUrl:
    """Read a URL such as `s3://bucket/prefix`.

    Raises:
        InvalidParams: it is none; what may be a password in it is not repeated.
    """
    match = _SCHEME.fullmatch(text.strip())
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in SCHEMES:
        raise InvalidParams(
            f"URLs of {scheme or 'this kind'} are not known. Give a path, or a URL that begins "
            f"with {', '.join(f'{each}://' for each in SCHEMES)}."
        )
    bucket, _, key = match[2].partition("/")
    if "@" in bucket:
        raise InvalidParams(
            "The URL holds a user or password. Give credentials in their environment variables "
            f"instead, and the URL as {scheme}://bucket/prefix."
        )
    if not _BUCKET.fullmatch(bucket):
        raise InvalidParams(f"The URL names no bucket. Give it as {scheme}://bucket/prefix.")
    key = key.rstrip("/")
    check_key(key)
    return ObjectUrl(scheme, bucket, key)


def check_key(key: str) -> None:
    """Refuse what is no plain path inside of a bucket.

    Raises:
        InvalidParams: there is a `..`, a part that is empty, or a character that is no part of one.
    """
    if _NO_PART_OF_A_KEY.search(key):
        raise InvalidParams(
            "The path in a bucket may hold no ?, #, backslash or control character. Credentials "
            "and tokens belong into their environment variables."
        )
    if key and any(part in ("", ".", "..") for part in key.split("/")):
        raise InvalidParams("The path in a bucket may hold no part that is empty, '.' or '..'.")
