"""What object storage answers, as errors of ours: what happened, to what, what to do next."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError

_STATUS = re.compile(r"status code: (\d{3})")
# From the driver's dump of its error; the classes it raises do not tell these apart.
_NO_ANSWER = re.compile(r"HttpError \{\s+kind: (\w+)")
_RANGE_IGNORED = re.compile(r"source: NotPartial\b")
_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {"RequestTimeout", "SlowDown"}
_CODE = re.compile(r"<Code>([\w.]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<\n\r]*)")
# How the operating system names what failed, deep in the driver's own account.
_SYSTEM = re.compile(r'message: "([^"\\]+)"')
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_CREDENTIALS = {
    "AuthenticationFailed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnauthorizedAccess",
}
# Where a machine in a cloud asks for credentials when it was given none.
_METADATA_SERVICES = ("169.254.", "metadata.google.internal", "fd00:ec2")
_SECRET_VARIABLE = re.compile(r"SECRET|TOKEN|KEY|PASSWORD|SAS|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8


class UnsupportedRequest(StorageError):
    """The store does not support this request, or a condition or parameter of it."""


def store_exceptions() -> tuple[type[Exception], ...]:
    """What obstore raises. For `except`, so that nothing is imported until something was raised."""
    from obstore.exceptions import BaseError

    return (BaseError, OSError, NotImplementedError, ValueError)


@contextmanager
def object_errors(action: str) -> Iterator[None]:
    """Raise what obstore raises in the block as an error of ours: "Could not {action}: …"."""
    try:
        yield
    except BackupError:
        raise
    except store_exceptions() as error:
        # Not `from error`: the driver's text holds URLs, and those may hold signatures.
        raise _as_storage_error(error, action) from None


def _as_storage_error(error: Exception, action: str) -> BackupError:
    """The error of ours for what obstore raised."""
    text = str(error)
    if isinstance(error, FileNotFoundError) and not _is_bucket_missing(text):
        return ResourceNotFound(f"Could not {action}: it does not exist.")
    if is_range_ignored(error):
        return StorageError(
            f"Could not {action}: the store ignored the requested byte range and sent the whole "
            "object (HTTP status 200 instead of 206). Use a store that supports range requests; "
            "if there is a proxy in front of it, let the proxy pass the Range header."
        )
    kind = UnsupportedRequest if _is_unsupported(error) else StorageError
    return kind(f"Could not {action}: {_reason(error, text)} {_advice(error, text)}")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed in a while."""
    text = str(error)
    status = _status(error)
    if status is not None:
        return status in _TRANSIENT_STATUS or _code(text) in _TRANSIENT_CODES
    return isinstance(error, ConnectionError) or (
        _NO_ANSWER.search(text) is not None and "BadScheme" not in text
    )


def is_range_ignored(error: Exception) -> bool:
    """Whether the store sent the whole object (200) where a part of it was requested (206)."""
    return _RANGE_IGNORED.search(str(error)) is not None


def _status(error: Exception) -> int | None:
    """The HTTP status of the answer, None if there was none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _is_unsupported(error: Exception) -> bool:
    status, code = _status(error), _code(str(error))
    return (
        isinstance(error, NotImplementedError)
        or status == 501
        or code == "NotImplemented"
        or (status == 400 and code in {"InvalidArgument", "InvalidRequest"})
    )


def _code(text: str) -> str:
    found = _CODE.search(text)
    return found[1] if found else ""


def _is_bucket_missing(text: str) -> bool:
    return _code(text) in _NO_BUCKET or "specified bucket does not exist" in text


def _lacks_credentials(text: str) -> bool:
    return any(service in text for service in _METADATA_SERVICES)


def _reason(error: Exception, text: str) -> str:
    if _lacks_credentials(text):
        return "no credentials were found."
    status, message = _STATUS.search(text), _MESSAGE.search(text)
    if status is not None:
        told = " ".join(part for part in (status[1], _code(text)) if part)
        more = f": {message[1].strip().rstrip('.')}" if message else ""
        return _without_secrets(f"the server answered {told}{more}.")
    if "BadScheme" in text:
        return "the endpoint is http://, where https:// is asked for."
    if is_transient(error):
        system, no_answer = _SYSTEM.search(text), _NO_ANSWER.search(text)
        is_late = no_answer is not None and no_answer[1] == "Timeout"
        kind = "it took too long" if is_late else "the connection failed"
        return f"{kind}{f' ({system[1]})' if system else ''}."
    first = text.partition("\n")[0].partition("?")[0].rstrip(".")
    return _without_secrets(f"{first}.")


def _advice(error: Exception, text: str) -> str:
    kind, code = type(error).__name__, _code(text)
    if _is_bucket_missing(text):
        return (
            "The bucket is not there: create it, or check VECTOR_BACKUP_ROOT, the endpoint and the "
            "region."
        )
    if code in _CREDENTIALS or kind == "UnauthenticatedError" or _lacks_credentials(text):
        return (
            "Check the credentials in the environment of this process, such as AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY: docs/storage.md names each store's variables."
        )
    if kind == "PermissionDeniedError" or _status(error) == 403:
        return (
            "Let these credentials list, read, write and delete there: docs/storage.md has a "
            "policy to paste."
        )
    if "invalid path" in text:
        return (
            "Another program's key there has a part that is empty, '.', '..' or a control "
            "character, and keeps the place from being listed: remove or rename it."
        )
    if "BadScheme" in text:
        return "Give an https:// endpoint, or set AWS_ALLOW_HTTP=true."
    if _status(error) is None and is_transient(error):
        return "Check the endpoint and the network, and try again."
    if _status(error) is not None:
        return "Try again; if it stays, look at the store's own status and logs."
    return "Check the environment variables of this store: docs/storage.md names them."


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
