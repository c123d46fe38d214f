"""The verdict beside a backup set: the outcome of its last verification and its last restore test.

A verification without a restore test keeps the outcome of the last restore test, so each has a time
of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from vector_backup_pipeline.engine.errors import ResourceNotFound
from vector_backup_pipeline.engine.file_names import verdict_name
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


@dataclass(frozen=True)
class Verdict:
    """Whether the set passed, and when."""

    passed: bool
    at: datetime


@dataclass(frozen=True)
class Verdicts:
    """The last verification of the stored files, and the last restore test; None without one."""

    verified: Verdict | None = None
    drill: Verdict | None = None


NO_VERDICTS = Verdicts()


class _StoredDrill(BaseModel, extra="allow"):
    passed: bool
    # Files of earlier versions have none; it is then the time of the verification.
    drilled_at: AwareDatetime | None = None


class _StoredVerdict(BaseModel):
    verified_at: AwareDatetime
    passed: bool
    # Files of the first version have none.
    files_passed: bool | None = None
    drill: _StoredDrill | None = None


def read_verdicts(directory: BackupDirectory, stamp: str) -> Verdicts:
    """The verdicts on a set. A file that is missing or can't be parsed counts as no verdict.

    Raises:
        StorageError: the file can't be read.
    """
    stored = _read(directory, stamp)
    if stored is None:
        return NO_VERDICTS
    files_passed = stored.passed if stored.files_passed is None else stored.files_passed
    verified, drill = Verdict(files_passed, stored.verified_at), None
    if stored.drill is not None:
        drill = Verdict(stored.drill.passed, stored.drill.drilled_at or stored.verified_at)
    return Verdicts(verified, drill)


def write_verdict(directory: BackupDirectory, verdict: SetVerdict) -> None:
    """Write the verdict beside its set, with the last restore test if this one made none.

    Raises:
        StorageError: the file can't be written.
    """
    data: dict[str, Any] = verdict.model_dump(mode="json")
    earlier = _read(directory, verdict.timestamp)
    if verdict.drill is None and earlier is not None and earlier.drill is not None:
        data["drill"] = earlier.drill.model_dump(mode="json")
        data["drill"]["drilled_at"] = (earlier.drill.drilled_at or earlier.verified_at).isoformat()
    drill_passed = data["drill"] is None or data["drill"]["passed"]
    data["passed"] = verdict.files_passed is True and drill_passed
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    directory.replace(verdict_name(verdict.timestamp), text.encode())


def _read(directory: BackupDirectory, stamp: str) -> _StoredVerdict | None:
    try:
        return _StoredVerdict.model_validate_json(b"".join(directory.read(verdict_name(stamp))))
    except (ValidationError, ResourceNotFound):
        return None
