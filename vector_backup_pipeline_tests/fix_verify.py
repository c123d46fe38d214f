"""Verifications made through the engine."""

from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.encryption import NO_ENCRYPTION, Encryption
from vector_backup_pipeline.engine.results import VerifyResult
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.verification.drill import OpenDrillServer
from vector_backup_pipeline.engine.verification.run import VerifyRun
from vector_backup_pipeline.parameters.verify import VerifyParameters


def _no_drill() -> Any:
    pytest.fail("no drill")


def verify_run(
    root: Path,
    open_drill_server: OpenDrillServer = _no_drill,
    encryption: Encryption = NO_ENCRYPTION,
    **parameters: Any,
) -> VerifyRun:
    """A run that has not started; the caller calls its steps."""
    return VerifyRun(
        VerifyParameters(**parameters),
        BackupRoot(str(root), "vector_bak", encryption=encryption),
        open_drill_server,
        lock_timeout=1.0,
        run_id="verify",
    )


def verify_root(
    root: Path, open_drill_server: OpenDrillServer = _no_drill, **parameters: Any
) -> VerifyResult:
    """A complete verification."""
    run = verify_run(root, open_drill_server, **parameters)
    for key in run.find():
        run.verify(key)
    return run.close()
