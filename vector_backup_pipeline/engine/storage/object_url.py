"""URLs of object storage: which bucket, and which key in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams

S3, GCS, AZURE = "s3", "gs", "az"
_SCHEMES = (S3, GCS, AZURE)

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# After `?` and `#` there may be a signature; the others no store accepts in a key.
_NOT_IN_A_KEY = re.compile(r"[?#\\\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ObjectUrl:
    """`{scheme}://{bucket}/{key}`; the key has no slash at its ends and may be empty."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, path: str) -> ObjectUrl:
        key = "/".join(part for part in (self.key, path) if part)
        return ObjectUrl(self.scheme, self.bucket, key)


def is_url(text: str) -> bool:
    return "://" in text


def parse_object_url(text: str) -> ObjectUrl:
    """Read a URL such as `s3://bucket/prefix`. Raises `InvalidParams` if it is malformed, without
    repeating what may be a password."""
    match = _URL.fullmatch(text.strip())
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in _SCHEMES:
        raise InvalidParams(
            f"URLs of {scheme or 'this kind'} are not supported. Give a path, or a URL that begins "
            f"with {', '.join(f'{known}://' for known in _SCHEMES)}."
        )
    bucket, key = match[2], match[3].rstrip("/")
    if "@" in bucket:
        raise InvalidParams(
            "The URL contains a user or password. Set credentials in their environment variables "
            f"instead, and give the URL as {scheme}://bucket/prefix."
        )
    if not _BUCKET.fullmatch(bucket):
        raise InvalidParams(f"The URL has no valid bucket. Give it as {scheme}://bucket/prefix.")
    if _NOT_IN_A_KEY.search(key):
        raise InvalidParams(
            "The path in a bucket cannot contain ?, #, backslash or control characters. Set "
            "credentials and tokens in their environment variables."
        )
    if key and any(part in ("", ".", "..") for part in key.split("/")):
        raise InvalidParams("The path in a bucket cannot have a part that is empty, '.' or '..'.")
    return ObjectUrl(scheme, bucket, key)
