"""What can go wrong only between the REST door and its caller; the root is `engine.errors`.

BackupError
├── RangeNotSatisfiable        RANGE_NOT_SATISFIABLE     416
└── StorageError
    └── FileChanged            STORAGE_ERROR             500  can retry
"""

from __future__ import annotations

from vector_backup_pipeline.engine.errors import BackupError, StorageError


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
