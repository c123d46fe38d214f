"""What every store promises; one suite of tests holds all of them to it.

- A file appears whole or not at all, durable before it has its name. In a local directory it is
  written under `{name}.tmp`; in a bucket nothing is to be seen of it before.
- `claim` is create-only: of two runs at once exactly one gets a name.
- Errors are ours (`engine.errors`): `StorageError` for what the store refuses, `ResourceNotFound`
  for what is not there. No driver's own exception leaks out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.secrets import SecretText

# How often a run's marker shows a sign of life, and after how long without one its run counts as
# dead where nothing else tells: time for a store to be out of reach for a while.
HEARTBEAT_SECONDS = 60.0
DEAD_AFTER = timedelta(minutes=15)


@dataclass(frozen=True)
class AbandonedUpload:
    """Parts of a file whose run died before it was complete; `size` in bytes, None if unknown."""

    location: str
    started_at: datetime
    size: int | None


class PendingFile(Protocol):
    """A file being written. Left without `commit`, it is gone without a trace."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None:
        """Make it durable, check its size, give it its name; durable in its directory too."""


class Claim(Protocol):
    """This run's marker in a directory; it keeps its own heartbeat until released."""

    def release(self) -> None:
        """Remove it. Raises nothing, since what was done under it is done: one that can't be
        removed stays, and counts as dead in a while."""


class BackupDirectory(Protocol):
    """One directory of backup sets: the root's or a task's."""

    @property
    def location(self) -> str:
        """Its absolute path or URL, for people and results."""

    @property
    def manifest_key(self) -> SecretText | None:
        """The key that signs the manifests in it. With a key, an unsigned manifest is refused."""

    def names(self) -> list[str]:
        """The files directly in it, sorted."""

    def sizes(self) -> dict[str, int]:
        """The same files, each with its size in bytes, from one listing."""

    def create(
        self, name: str, expected_size: int | None = None
    ) -> AbstractContextManager[PendingFile]:
        """A new file. `expected_size` in bytes is a guess, for stores that have to know early how
        to cut it up."""

    def size(self, name: str) -> int:
        """The stored file's size in bytes. Raises `ResourceNotFound`."""

    def version(self, name: str) -> str:
        """A text that is another one whenever the stored bytes may be others: the same name with
        the same version has the same bytes. Printable ASCII without quotes or spaces.

        Raises:
            ResourceNotFound: there is no such file; in a local directory also what is no regular
                file itself, such as a symbolic link, wherever it leads.
        """

    def modified_at(self, name: str) -> datetime:
        """When the file was written, by the clock of whoever keeps it: a network mount's server's,
        a bucket's. Raises `ResourceNotFound`."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The stored bytes from `offset` on in chunks of about a MiB, `length` of them or all; a
        file that ends before ends the chunks. From the medium itself as far as that can be asked
        for, when the whole file is read. Several threads may read one file at once."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a small file whole, over whatever had the name."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""

    def append(self, name: str, text: str) -> None:
        """Add to a text that others append to at the same time; no part is lost or torn."""

    def claim(self, name: str, owner: Mapping[str, str | int]) -> Claim | None:
        """Create the marker `name`; None if it exists already. Where a store can't create under
        a condition, the marker's name gets an ending of its run's own, `{name}.{token}`."""

    def claim_is_alive(self, name: str) -> bool:
        """Whether the marker's run still lives; False too when the marker is gone."""

    def remove_dead_claim(self, name: str) -> None:
        """Remove a dead run's marker; a live one's stays."""


class BackupRoot(Protocol):
    """The root of all backups: one directory of its own, and one for each task."""

    @property
    def location(self) -> str: ...

    @property
    def default_path(self) -> str:
        """The root's own backup directory, as `find_path` takes it; it need not be there yet."""

    def free_bytes(self) -> int | None:
        """Bytes that can still be written; None where the store has no such limit."""

    def task_ids(self, accept: Callable[[str], bool]) -> list[str]:
        """The names of the task directories that `accept` takes, sorted."""

    def find_path(self, path: str) -> BackupDirectory | None:
        """The directory that `path` names, None if it is not there: absolute, or relative to the
        root's parent. Raises `InvalidParams` for what lies outside of the root."""

    def relative_path(self, directory: BackupDirectory) -> str:
        """How `find_path` takes a directory of this root: relative to the root's parent."""

    def find(self, task_id: str | None) -> BackupDirectory | None:
        """The backup directory if it exists already. Raises `ResourceNotFound` for the task's, and
        `InvalidParams` for a task with the name of the root's own."""

    def open(self, task_id: str | None) -> BackupDirectory:
        """The backup directory, made if missing. Raises as `find` does."""

    def open_for_trial(self, task_id: str | None) -> AbstractContextManager[BackupDirectory]:
        """As `open`; what had to be made for that goes again, unless something lies in it."""

    def abort_abandoned_uploads(self, *, dry_run: bool) -> list[AbandonedUpload]:
        """Find the parts that killed runs left where nobody sees them, and remove them unless it
        is a dry run. None where a store keeps no such parts, or removes them by itself.

        Raises:
            StorageError: the store can't be asked.
        """


def check_is_no_backup_directory(task_id: str, directory: str) -> None:
    """Raises `InvalidParams` for a task whose directory would be the root's own `directory` of
    backups: what lies in that is taken for no task, so its backups would never be found."""
    if task_id == directory:
        raise InvalidParams(
            f"The task_id {task_id!r} is the name of the directory for backups without a task, so "
            "a task can't be called so. Choose another task_id, or leave it out."
        )
