"""What goes wrong at this door alone; the rest of the hierarchy is in engine/errors.py.

BackupError
├── Unauthorized               UNAUTHORIZED              401
├── ResourceNotFound
│   └── TaskDirectoryNotFound  RESOURCE_NOT_FOUND        404
├── MethodNotAllowed           METHOD_NOT_ALLOWED        405
├── StateConflict              STATE_CONFLICT            409
├── BodyTooLarge               PAYLOAD_TOO_LARGE         413
└── ServiceUnavailable
    └── DagsterUnavailable     SERVICE_UNAVAILABLE       503  can retry
        └── RunUnresolved      SERVICE_UNAVAILABLE       503
"""

from __future__ import annotations

from vector_backup_pipeline.engine.errors import (
    BackupError,
    ResourceNotFound,
    ServiceUnavailable,
    StorageError,
)


class Unauthorized(BackupError):
    """The caller does not show that it may call."""

    error_type = "UNAUTHORIZED"
    http_status = 401


class TaskDirectoryNotFound(ResourceNotFound):
    """There is no directory of that task under the root."""


class MethodNotAllowed(BackupError):
    """The address is there, but not for this method."""

    error_type = "METHOD_NOT_ALLOWED"
    http_status = 405


class StateConflict(BackupError):
    """What is asked for does not go with the state of the run."""

    error_type = "STATE_CONFLICT"
    http_status = 409


class BodyTooLarge(BackupError):
    """The request's body has more bytes than are taken."""

    error_type = "PAYLOAD_TOO_LARGE"
    http_status = 413


class DagsterUnavailable(ServiceUnavailable):
    """Dagster does not answer, or can't do what it is asked for now.

    `run_id` is the run that was launched, if one was; it was canceled before it started.
    """

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunUnresolved(DagsterUnavailable):
    """A run may start or go on although its call is answered with an error; a second call would
    add another run."""

    can_retry = False


class RangeNotSatisfiable(BackupError):
    """The bytes asked for lie outside of the file, which has `size` bytes."""

    error_type = "RANGE_NOT_SATISFIABLE"
    http_status = 416

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The range that was asked for lies outside of the file, which has {size} bytes. Ask "
            "for bytes of it, or without a Range for all of it."
        )
        self.size = size


class FileChanged(StorageError):
    """The file became another one between being found and being opened."""

    can_retry = True

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The file {name!r} was changed in the moment of its download. Ask for it again."
        )


class CallerGone(Exception):
    """Nobody waits for the answer any more. No error of anybody's."""
