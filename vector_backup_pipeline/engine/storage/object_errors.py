"""Errors of obstore as errors of ours.

obstore's classes tell apart what is missing, exists or is not permitted. All else is one
`GenericError`, so the HTTP status and what the server said can only be read from its text: that is
done in `_Answer.of` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.store import TransientStorageError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([\w.]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<\n\r]*)")
# What the operating system reports, deep in the debug output.
_SYSTEM_ERROR = re.compile(r'message: "([^"\\]+)"')
# The host of the metadata service, which is asked where no credentials are configured.
_METADATA_SERVICES = ("169.254.", "metadata.google.internal", "fd00:ec2")

_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_CREDENTIALS = {
    "AuthenticationFailed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}


class ConditionFailed(StorageError):
    """A conditional write was refused: the object exists, or is another version."""


@dataclass(frozen=True)
class _Answer:
    """What a server answered. `status` is None if there was no answer."""

    status: int | None
    code: str
    reason: str
    is_connection_lost: bool
    lacks_credentials: bool
    has_no_bucket: bool

    @classmethod
    def of(cls, error: Exception) -> _Answer:
        text = str(error)
        status, code = _STATUS.search(text), _CODE.search(text)
        message, system = _MESSAGE.search(text), _SYSTEM_ERROR.search(text)
        is_lost = status is None and "HTTP error" in text
        if status is not None:
            reason = f"the server answered {status[1]}{f' {code[1]}' if code else ''}"
            reason += f": {message[1].strip().rstrip('.')}" if message else ""
        elif is_lost:
            kind = "timeout" if "Timeout" in text else "the connection failed"
            reason = f"{kind} ({system[1]})" if system else kind
        else:
            # Without what may be a signed URL.
            reason = text.partition("\n")[0].partition("?")[0].rstrip(".")
        return cls(
            int(status[1]) if status else None,
            code[1] if code else "",
            reason,
            is_lost,
            any(service in text for service in _METADATA_SERVICES),
            "specified bucket does not exist" in text or bool(code and code[1] in _NO_BUCKET),
        )

    @property
    def is_transient(self) -> bool:
        return (
            self.is_connection_lost
            or self.status in _TRANSIENT_STATUS
            or self.code == "RequestTimeout"
        )


@contextmanager
def object_errors(action: str) -> Iterator[None]:
    """Raise what obstore raises in the block as an error of ours: "Could not {action}: …"."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BackupError:
        raise
    except (BaseError, OSError, NotImplementedError, ValueError) as error:
        # Not `from error`: its text holds URLs, and those may hold signatures.
        raise _storage_error(error, action) from None


def _storage_error(error: Exception, action: str) -> BackupError:
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    if isinstance(error, (AlreadyExistsError, PreconditionError)):
        return ConditionFailed(f"Could not {action}: it was changed meanwhile.")
    answer = _Answer.of(error)
    if isinstance(error, FileNotFoundError) and not answer.has_no_bucket:
        return ResourceNotFound(f"Could not {action}: it does not exist.")
    kind = TransientStorageError if answer.is_transient else StorageError
    return kind(f"Could not {action}: {answer.reason}.", _advice(error, answer))


def _advice(error: Exception, answer: _Answer) -> str:
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    if answer.has_no_bucket:
        return "Create the bucket, or check VECTOR_BACKUP_ROOT, the endpoint and the region."
    if (
        answer.lacks_credentials
        or answer.code in _CREDENTIALS
        or isinstance(error, UnauthenticatedError)
    ):
        return (
            "Check the credentials in the environment of this process, such as AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY: docs/storage.md lists the variables of each store."
        )
    if isinstance(error, PermissionDeniedError) or answer.status == 403:
        return (
            "Let these credentials list, read, write and delete there: docs/storage.md has a "
            "policy to paste."
        )
    if isinstance(error, InvalidPathError):
        return (
            "Another program's key there has a part that is empty, '.', '..' or a control "
            "character, which prevents listing: remove or rename it."
        )
    if answer.is_connection_lost:
        return "Check the endpoint and the network, and try again."
    if answer.status is not None:
        return "Try again; if the error persists, see the status and the logs of the store."
    return "See docs/storage.md for the requirements and settings of this store."
