"""The root of all backups: one directory of its own, and one for each task."""

import contextlib
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.encryption import NO_ENCRYPTION, Encryption
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.file_names import marker_name, stamp_of_data_file
from vector_backup_pipeline.engine.results import EndedUpload
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.storage.object_store import ObjectStore
from vector_backup_pipeline.engine.storage.object_url import is_url
from vector_backup_pipeline.engine.storage.store import Store, UnfinishedUpload
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS, TimestampFormat
from vector_backup_pipeline.parameters.types import is_task_id

# A run removes its marker after its uploads, and begins them after it.
ABANDONED_WITHOUT_MARKER = timedelta(hours=1)
# The directory of request files, which is no task.
REQUESTS = "requests"


class BackupRoot:
    """`{root}/{directory}/` and `{root}/{task_id}/{directory}/` in a store."""

    def __init__(
        self,
        root: str,
        directory: str,
        *,
        timestamps: TimestampFormat = DEFAULT_TIMESTAMPS,
        reserved: Collection[str] = (),
        part_size: int | None = None,
        manifest_key: SecretText | None = None,
        encryption: Encryption = NO_ENCRYPTION,
    ) -> None:
        """`root` is a path or a URL; a malformed one raises `InvalidParams`. `timestamps` is the
        format of those in file names. `reserved` folders are no tasks. `part_size` is the bytes of
        each part of an upload, by default such that they fit the file."""
        self._store: Store = ObjectStore(root, part_size) if is_url(root) else LocalStore(root)
        self._directory = directory
        self.timestamps = timestamps
        self._reserved = {directory, REQUESTS, *reserved}
        self._manifest_key = manifest_key
        self._encryption = encryption

    @property
    def location(self) -> str:
        """The absolute path or URL."""
        return self._store.location()

    @property
    def is_encrypted(self) -> bool:
        """Whether there are recipients or identities."""
        return self._encryption != NO_ENCRYPTION

    @property
    def default_path(self) -> str:
        """The location of the root's own directory, which need not exist."""
        return self._store.location(self._directory)

    def free_bytes(self) -> int | None:
        """The free space, None if there is no such limit."""
        return self._store.free_bytes()

    def task_ids(self) -> list[str]:
        """The names of the task directories, sorted."""
        listing = self._store.list_folder("")
        return [
            name
            for name in (listing.folders if listing else ())
            if name not in self._reserved
            and is_task_id(name)
            and self._is_inside(self._folder(name))
        ]

    def find_path(self, path: str) -> BackupDirectory | None:
        """The directory at a location, or at a path relative to the parent of the root; None if it
        does not exist. Raises `InvalidParams` if it is outside of the root."""
        return self._at(self._store.folder_at(path))

    def relative_path(self, directory: BackupDirectory) -> str:
        """The path of a directory relative to the parent of the root, as `find_path` takes it."""
        name = self.location.rstrip("/").rpartition("/")[2]
        return f"{name}/{directory.folder}".rstrip("/")

    def find(self, task_id: str | None) -> BackupDirectory | None:
        """The backup directory of a task, or of the root; None if it does not exist.

        Raises:
            ResourceNotFound: the directory of the task does not exist.
            InvalidParams: the task has the name of the root's own directory or of the one for
                requests, or a symbolic link leads out of the root.
        """
        return self._at(self._checked_folder(task_id))

    def open(self, task_id: str | None) -> BackupDirectory:
        """The backup directory, created if it is missing. Raises as `find` does."""
        folder = self._checked_folder(task_id)
        self._store.make_folder(folder)
        return self._directory_at(folder)

    def open_requests(self, outcome: str = "") -> BackupDirectory:
        """The directory of the request files that wait for the end of their runs, or of those that
        are `done` or `failed`; created if it is missing."""
        if self._directory == REQUESTS:
            raise InvalidParams(
                f"{self.default_path} is the directory of the backups, so it can't have requests. "
                "Set VECTOR_BACKUP_DIRECTORY to another name."
            )
        folder = f"{REQUESTS}/{outcome}".rstrip("/")
        self._store.make_folder(folder)
        return BackupDirectory(self._store, folder)

    @contextlib.contextmanager
    def open_for_trial(self, task_id: str | None) -> Iterator[BackupDirectory]:
        """As `open`; directories created for it are removed afterwards if they are empty."""
        remove = self._store.make_folder(self._checked_folder(task_id))
        try:
            yield self.open(task_id)
        finally:
            remove()

    def abort_abandoned_uploads(self, *, dry_run: bool) -> list[EndedUpload]:
        """Find the parts that dead runs left unlisted in object storage, and remove them unless it
        is a dry run. Raises `StorageError` if the store can't list them."""
        aborted = []
        for upload in self._store.unfinished_uploads():
            if not self._is_abandoned(upload):
                continue
            ended = EndedUpload(
                location=self._store.location(upload.path),
                started_at=upload.started_at,
                size=upload.size(),
            )
            if not dry_run:
                try:
                    upload.abort()
                except ResourceNotFound:
                    continue  # Aborted by somebody else, or by a lifecycle rule.
            aborted.append(ended)
        return aborted

    def _is_abandoned(self, upload: UnfinishedUpload) -> bool:
        folder, _, name = upload.path.rpartition("/")
        task_id, _, directory = folder.rpartition("/")
        is_backup_folder = directory == self._directory and (not task_id or is_task_id(task_id))
        stamp = stamp_of_data_file(name, self.timestamps)
        if not is_backup_folder or stamp is None:
            return False
        backups, marker = self._directory_at(folder), marker_name(stamp)
        if marker in backups.names():
            return not backups.claim_is_alive(marker)
        return datetime.now(timezone.utc) - upload.started_at >= ABANDONED_WITHOUT_MARKER

    def _folder(self, task_id: str | None) -> str:
        return self._directory if task_id is None else f"{task_id}/{self._directory}"

    def _checked_folder(self, task_id: str | None) -> str:
        if task_id in self._reserved:
            raise InvalidParams(
                f"The task_id {task_id!r} is the name of the directory of backups without a task, "
                "of request files, or of a target. Choose another task_id, or leave it out."
            )
        if task_id is not None and self._store.list_folder(task_id) is None:
            raise ResourceNotFound(
                f"The task directory {self._store.location(task_id)} does not exist. Check "
                "task_id, or leave it out for the root's own backups. For a new task, create the "
                "directory first (in object storage, put an object there)."
            )
        return self._folder(task_id)

    def _at(self, folder: str) -> BackupDirectory | None:
        if self._store.list_folder(folder) is None:
            return None
        return self._directory_at(folder)

    def _directory_at(self, folder: str) -> BackupDirectory:
        return BackupDirectory(
            self._store, folder, self.timestamps, self._manifest_key, self._encryption
        )

    def _is_inside(self, folder: str) -> bool:
        """False if a symbolic link leads out of the root."""
        try:
            self._store.list_folder(folder)
        except InvalidParams:
            return False
        return True
