"""A real backup or restore in a separate process, which stops at a named step until it is killed.

    python -m vector_backup_pipeline_tests.faults.stopped OPERATION ROOT STEP

reads the connection string from its standard input and prints "reached" at the step. A backup
truncates its table. A restore truncates existing tables; without any, it creates them in a staging
schema.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vector_backup_pipeline.engine import table_export
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.postgres import copy_in, ranges, truncate
from vector_backup_pipeline.engine.restore import load, target
from vector_backup_pipeline.engine.restore.connections import TargetConnections
from vector_backup_pipeline.engine.storage.directory import PendingFile
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child, hears
from vector_backup_pipeline_tests.fix_restore import TRUNCATING, RestoreMaker

# In order. A step is reached when its function has returned.
BACKUP_STEPS: dict[str, tuple[Any, str]] = {
    "exporting": (table_export.DataFileWriter, "append"),
    "after the rename": (PendingFile, "commit"),
    "pending manifest written": (BackupRun, "_prepare_truncate"),
    "after the commit": (truncate, "commit_or_learn"),
    "outcome written": (BackupRun, "truncate"),
}


@contextmanager
def stopped(operation: str, root: Path, step: str, database: Database) -> Iterator[None]:
    """Keep the process waiting at the step during the block, then kill it."""
    with child(
        [sys.executable, "-m", __name__, operation, str(root), step],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(database.url + "\n")
        process.stdin.flush()
        assert hears(process) == "reached"
        yield


def main(operation: str, root: Path, step: str) -> None:
    url = sys.stdin.readline().strip()
    if operation == "backup":
        ranges._RANGE_BYTES = 1 << 16
        _stop_after(*BACKUP_STEPS[step])
        backup = BackupMaker(root, lock_timeout=10)
        backup(url, tables=(EMBEDDINGS,), truncate_vector_tables=True)
    else:
        target._WORTH_CONNECTIONS = 0
        if step == "loading":
            _stop_in_the_middle_of_the_embeddings()
        elif step == "proven":
            setattr(TargetConnections, "commit", lambda _: _stand_still())  # noqa: B010 - mypy
        elif step == "committed":
            _stop_after(TargetConnections, "commit")
        RestoreMaker(root, lock_timeout=10)(url, **TRUNCATING)


def _stand_still() -> None:
    """Wait until it is killed, or its parent has exited."""
    print("reached", flush=True)  # noqa: T201 - the protocol
    sys.stdin.read()
    os._exit(1)


def _stop_after(owner: Any, name: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def stopping(*arguments: Any, **keywords: Any) -> Any:
        original(*arguments, **keywords)
        _stand_still()

    setattr(owner, name, stopping)


def _stop_in_the_middle_of_the_embeddings() -> None:
    """The server has received the first rows and waits for more."""

    def first_and_no_more(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(chunks)
        _stand_still()

    def copying(
        cursor: Any, table: Any, columns: Any, form: Any, chunks: Iterator[bytes], where: Any = None
    ) -> int:
        if EMBEDDINGS in table.as_string(cursor):
            chunks = first_and_no_more(chunks)
        return copy_in.copy_rows(cursor, table, columns, form, chunks, where)

    setattr(load, "copy_rows", copying)  # noqa: B010 - a name that mypy takes for private


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
