"""Conversion of obstore's errors.

obstore's classes tell apart what is missing, exists, or is not permitted. Everything else is one
`GenericError`: the HTTP status and what the server said can be read only from its text. That is
done in `_storage_error` alone.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.store import TransientStorageError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([\w.]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<\n\r]*)")
_TRANSIENT_STATUS = {"408", "429", "500", "502", "503", "504"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_WRONG_CREDENTIALS = {
    "AuthenticationFailed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}


class ConditionFailed(StorageError):
    """A conditional write was refused: the object exists, or has another version."""


class ConditionsUnsupported(StorageError):
    """The service has no conditional writes."""


@contextmanager
def object_errors(action: str) -> Iterator[None]:
    """Convert obstore's exceptions in the block to a BackupError: "Could not {action}: …"."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BackupError:
        raise
    except (BaseError, OSError, NotImplementedError, ValueError) as error:
        # Not `from error`: its text contains URLs, which may contain signatures.
        raise _storage_error(error, action) from None


def _storage_error(error: Exception, action: str) -> BackupError:
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    text = str(error)
    status, code, message = (
        match[1].strip() if (match := pattern.search(text)) else ""
        for pattern in (_STATUS, _CODE, _MESSAGE)
    )
    if isinstance(error, AlreadyExistsError | PreconditionError):
        return ConditionFailed(f"Could not {action}: it was changed meanwhile.")
    if isinstance(error, FileNotFoundError) and code not in _NO_BUCKET:
        return ResourceNotFound(f"Could not {action}: it does not exist.")
    has_no_answer = not status and "HTTP error" in text
    if status:
        reason = " ".join(part for part in (f"the server answered {status}", code) if part)
        reason += f": {message.rstrip('.')}" if message else ""
    elif has_no_answer:
        reason = "timeout" if "Timeout" in text else "the connection failed"
    else:
        # The first line, without what may be the signature of a URL.
        reason = text.partition("\n")[0].partition("?")[0].rstrip(".")
    if status == "501" or isinstance(error, NotImplementedError):
        return ConditionsUnsupported(f"Could not {action}: {reason}.")
    is_transient = has_no_answer or status in _TRANSIENT_STATUS or code == "RequestTimeout"
    kind = TransientStorageError if is_transient else StorageError
    advice = _advice(error, status, code) or (
        "Check the endpoint and the network, and try again."
        if has_no_answer
        else "See docs/storage.md for the requirements and settings of this store."
    )
    return kind(f"Could not {action}: {reason}.", advice)


def _advice(error: Exception, status: str, code: str) -> str | None:
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    if code in _NO_BUCKET:
        return "Create the bucket, or check VECTOR_BACKUP_ROOT, the endpoint and the region."
    if code in _WRONG_CREDENTIALS or isinstance(error, UnauthenticatedError):
        return (
            "Check the credentials in the environment of this process, such as AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY: docs/storage.md lists the variables of each store."
        )
    if status == "403" or isinstance(error, PermissionDeniedError):
        return (
            "Let these credentials list, read, write and delete there: docs/storage.md has a "
            "policy to paste."
        )
    if isinstance(error, InvalidPathError):
        return (
            "Another program's key there has a part that is empty, '.', '..' or a control "
            "character, which prevents listing: remove or rename it."
        )
    return None
