"""A real backup in a separate process, which stops at a named step until it is killed.

    python -m vector_backup_pipeline_tests.faults.stopped_run ROOT STEP

reads the connection string from its standard input, prints "reached" at the step, and "done" at
the end.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.postgres import ranges
from vector_backup_pipeline.engine.storage.directory import PendingFile
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline_tests.faults.watching import pinned_and_exported

# In order.
STEPS = (
    "exporting",
    "after the rename",
    "pending manifest written",
    "after the commit",
    "outcome written",
)
TABLE = "langchain_pg_embedding"


def stand_still() -> None:
    """Wait until it is killed, or its parent has exited."""
    print("reached", flush=True)  # noqa: T201 - the protocol
    sys.stdin.read()
    os._exit(1)


def main(root: str, step: str) -> None:
    url = sys.stdin.readline().strip()
    ranges._RANGE_BYTES = 1 << 16
    _arrange(step)
    run = BackupRun(
        BackupRequest(
            truncate_vector_tables=True,
            tables=(TABLE,),
            truncate_tables=(TABLE,),
            workers=2,
        ),
        BackupRoot(root, "vector_bak"),
        lock_timeout=10.0,
        run_id="stopped run",
    )
    print("begun", flush=True)  # noqa: T201 - the protocol
    pinned_and_exported(run, url)
    run.truncate()
    run.close()
    print("done", flush=True)  # noqa: T201 - the protocol


def _arrange(step: str) -> None:
    from vector_backup_pipeline.engine import table_export
    from vector_backup_pipeline.engine.postgres import truncate

    if step == "exporting":
        stop_after(table_export.DataFileWriter, "append")
    elif step == "after the rename":
        stop_after(PendingFile, "commit")
    elif step == "pending manifest written":
        stop_after(BackupRun, "_prepare_truncate")
    elif step == "after the commit":
        stop_after(truncate, "commit_or_learn")
    elif step == "outcome written":
        stop_after(BackupRun, "truncate")


def stop_after(owner: Any, name: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def stopping(*arguments: Any, **keywords: Any) -> Any:
        original(*arguments, **keywords)
        stand_still()

    setattr(owner, name, stopping)


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main(sys.argv[1], sys.argv[2])
