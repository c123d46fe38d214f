"""A real restore in a separate process, which stops at a named step until it is killed.

    python -m vector_backup_pipeline_tests.faults.stopped_restore ROOT STEP

reads the connection string from its standard input, prints "reached" at the step, and "done" at
the end. Existing tables are truncated; without any, the tables are created in a staging schema.
"""

import sys
from collections.abc import Iterator
from typing import Any

from vector_backup_pipeline.engine.postgres import copy_in
from vector_backup_pipeline.engine.restore import load, target
from vector_backup_pipeline.engine.restore.connections import TargetConnections
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline_tests.faults.stopped_run import stand_still, stop_after
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS
from vector_backup_pipeline_tests.fix_postgres import settings_for
from vector_backup_pipeline_tests.fix_restore import DEFAULTS

# In order.
STEPS = ("loading", "proven", "committed")
RUN_ID = "0123456789abcdef0123456789abcdef"


def main(root: str, step: str) -> None:
    url = sys.stdin.readline().strip()
    target._WORTH_CONNECTIONS = 0
    _arrange(step)
    run = RestoreRun(
        RestoreParameters(**{**DEFAULTS, "truncate_before_restore": True}),
        BackupRoot(root, "vector_bak"),
        lock_timeout=10.0,
        run_id=RUN_ID,
    )
    print("begun", flush=True)  # noqa: T201 - the protocol
    run.find(lambda: settings_for(url))
    for planned in run.prepare():
        run.load(planned.table, lambda _: None)
    run.build_indexes()
    run.prove()
    run.close()
    print("done", flush=True)  # noqa: T201 - the protocol


def _arrange(step: str) -> None:
    if step == "loading":
        _stop_in_the_middle_of_the_embeddings()
    elif step == "proven":
        setattr(TargetConnections, "commit", lambda _: stand_still())  # noqa: B010 - mypy
    elif step == "committed":
        stop_after(TargetConnections, "commit")


def _stop_in_the_middle_of_the_embeddings() -> None:
    """The server has received the first rows and waits for more."""

    def first_and_no_more(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(chunks)
        stand_still()

    def copying(
        cursor: Any, table: Any, columns: Any, form: Any, chunks: Iterator[bytes], where: Any = None
    ) -> int:
        if EMBEDDINGS in table.as_string(cursor):
            chunks = first_and_no_more(chunks)
        return copy_in.copy_rows(cursor, table, columns, form, chunks, where)

    setattr(load, "copy_rows", copying)  # noqa: B010 - a name that mypy takes for private


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
