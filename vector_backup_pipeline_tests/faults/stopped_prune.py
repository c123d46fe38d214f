"""A real prune in a separate process, which stops at a named step until it is killed.

    python -m vector_backup_pipeline_tests.faults.stopped_prune ROOT STEP

prints "reached" at the step, and "done" at the end.
"""

import os
import sys
from collections.abc import Callable
from datetime import timezone
from pathlib import Path
from typing import Any

from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalUpload
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline.parameters.prune import PruneParameters

# In order, for a set with a verdict.
STEPS = (
    "writing the tombstone",
    "tombstone written",
    "manifest removed",
    "verdict removed",
)
# Before the first removal, the second, …
_REMOVALS = STEPS[1:]


def stand_still() -> None:
    """Wait until it is killed, or its parent has exited."""
    print("reached", flush=True)  # noqa: T201 - the protocol
    sys.stdin.read()
    os._exit(1)


def main(root: str, step: str) -> None:
    _arrange(step)
    run = PruneRun(
        PruneParameters(keep_last=1),
        KeepRules(),
        BackupRoot(root, "vector_bak"),
        TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, timezone.utc),
        run_id="stopped prune",
    )
    for location in run.find():
        run.prune(location.key)
    run.close()
    print("done", flush=True)  # noqa: T201 - the protocol


def _arrange(step: str) -> None:
    if step == "writing the tombstone":
        _stop_at(LocalUpload, "complete", 0)
    elif step in _REMOVALS:
        _stop_at(BackupDirectory, "delete", _REMOVALS.index(step))


def _stop_at(owner: Any, name: str, call: int) -> None:
    """Stop before the call of that number, counted from 0."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(call))

    def stopping(*arguments: Any, **keywords: Any) -> Any:
        if next(calls, None) is None:
            stand_still()
        return original(*arguments, **keywords)

    setattr(owner, name, stopping)


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main(sys.argv[1], sys.argv[2])
