"""The hierarchy of errors.

Each class has an `error_type` (stable, machine-readable), an `http_status`, and `can_retry` (a
retry may succeed).

    BackupError                    INTERNAL_ERROR            500
    ├── InvalidParams              INVALID_PARAMS            400
    │   └── MissingExtra           INVALID_PARAMS            400
    ├── MissingRequiredParams      MISSING_REQUIRED_PARAMS   400
    ├── ResourceNotFound           RESOURCE_NOT_FOUND        404
    ├── TableNotFound              TABLE_NOT_FOUND           404
    ├── PermissionDenied           PERMISSION_DENIED         500
    ├── DatabaseError              DATABASE_ERROR            500  can retry
    │   └── DatabaseRefused        DATABASE_ERROR            500
    ├── ServiceUnavailable         SERVICE_UNAVAILABLE       503  can retry
    ├── LockTimeout                LOCK_TIMEOUT              503  can retry
    ├── StorageError               STORAGE_ERROR             500
    ├── IntegrityError             INTEGRITY_ERROR           500
    └── RunCancelled               RUN_CANCELED              409  can retry

A message says what happened, to what, and what to do next. It never contains a password.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """A problem with the parameters `keys`. `text` is the rest of a sentence that begins with their
    names, or a complete sentence if there are no keys."""

    keys: tuple[str, ...]
    text: str
    is_missing: bool = False

    def sentence(self, name: Callable[[str], str] = str) -> str:
        """The problem as a sentence; `name` converts a parameter's key to its displayed name."""
        if not self.keys:
            return self.text
        *first, last = map(name, self.keys)
        names = f"{', '.join(first)} and {last}" if first else last
        return f"{names} {self.text}"


class BackupError(Exception):
    """The base class. Raised directly only if no subclass fits."""

    error_type: ClassVar[str] = "INTERNAL_ERROR"
    http_status: ClassVar[int] = 500
    can_retry: ClassVar[bool] = False
    # The problems with parameters that the message is composed of, if any.
    problems: tuple[Problem, ...] = ()
    # What to store of an error that may quote a row, where rows are stored only encrypted.
    without_rows: BackupError | None = None

    def __init__(self, summary: str, advice: str | None = None) -> None:
        """`summary` says what happened, to what. `advice` says what to do next, if the summary does
        not."""
        super().__init__(f"{summary} {advice}" if advice else summary)
        self.summary = summary
        self.advice = advice

    @property
    def message(self) -> str:
        return str(self)


class InvalidParams(BackupError):
    """A parameter is malformed or cannot be satisfied."""

    error_type = "INVALID_PARAMS"
    http_status = 400


class MissingExtra(InvalidParams):
    """Optional packages are not installed."""

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(need, f"Run: pip install 'vector-backup-pipeline[{extra}]'.")


class MissingRequiredParams(BackupError):
    """A required parameter is absent."""

    error_type = "MISSING_REQUIRED_PARAMS"
    http_status = 400


class ResourceNotFound(BackupError):
    """A task directory, backup set or file was not found."""

    error_type = "RESOURCE_NOT_FOUND"
    http_status = 404


class TableNotFound(BackupError):
    """The table was not found."""

    error_type = "TABLE_NOT_FOUND"
    http_status = 404


class PermissionDenied(BackupError):
    """The role may not read, lock or truncate."""

    error_type = "PERMISSION_DENIED"


class DatabaseError(BackupError):
    """The server reported an error, or closed the connection."""

    error_type = "DATABASE_ERROR"
    can_retry = True


class DatabaseRefused(DatabaseError):
    """The server reported an error that a retry would only repeat."""

    can_retry = False


class ServiceUnavailable(BackupError):
    """No server could be reached: unknown host, connection refused, timeout."""

    error_type = "SERVICE_UNAVAILABLE"
    http_status = 503
    can_retry = True


class LockTimeout(BackupError):
    """Lock timeout."""

    error_type = "LOCK_TIMEOUT"
    http_status = 503
    can_retry = True


class StorageError(BackupError):
    """The storage is full, refused a request, or cannot be reached."""

    error_type = "STORAGE_ERROR"


class IntegrityError(BackupError):
    """Stored bytes differ from those written, or rows from those expected."""

    error_type = "INTEGRITY_ERROR"


class RunCancelled(BackupError):
    """The run was canceled: by a signal, or in Dagster."""

    error_type = "RUN_CANCELED"
    http_status = 409
    can_retry = True

    def __init__(self) -> None:
        super().__init__(
            "The run was canceled before it was complete. Run it again to complete it."
        )


def parameter_error(problems: Sequence[Problem]) -> InvalidParams | MissingRequiredParams:
    """The error that reports these problems."""
    is_missing = all(problem.is_missing for problem in problems)
    kind = MissingRequiredParams if is_missing else InvalidParams
    error = kind(" ".join(problem.sentence() for problem in problems))
    error.problems = tuple(problems)
    return error


def as_backup_error(error: BaseException) -> BackupError:
    """`error` as a `BackupError`, for results and logs: unchanged if it is one, else wrapped.
    Exceptions that the engine does not convert are bugs or interrupts."""
    if isinstance(error, BackupError):
        return error
    if not isinstance(error, Exception):
        return RunCancelled()
    return BackupError(f"{type(error).__name__}: {error}")


def http_status_of(error_type: str) -> int:
    """The HTTP status for an `error_type`, as read from the events of a run."""
    statuses = {kind.error_type: kind.http_status for kind in error_classes()}
    return statuses.get(error_type, BackupError.http_status)


def error_classes() -> list[type[BackupError]]:
    classes: list[type[BackupError]] = [BackupError]
    for kind in classes:
        classes += kind.__subclasses__()
    return classes
