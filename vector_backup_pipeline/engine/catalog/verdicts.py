"""The verdict kept beside a set: what its last verification and its last restore test found.

A verification without a restore test keeps the verdict of the last one, so each has its own time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vector_backup_pipeline.engine.errors import ResourceNotFound
from vector_backup_pipeline.engine.file_names import verdict_name
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


@dataclass(frozen=True)
class Verdict:
    """Whether the set passed, and when that was found."""

    passed: bool
    at: datetime


@dataclass(frozen=True)
class Verdicts:
    """Of the stored files, and of a restore test; None if the set was never judged."""

    verified: Verdict | None = None
    drill: Verdict | None = None


def read_verdicts(directory: BackupDirectory, stamp: str) -> Verdicts:
    """The verdicts on a set. A file that is missing or unreadable counts as no verdict.

    Raises:
        StorageError: the storage refuses.
    """
    kept = _kept(directory, stamp)
    try:
        verified = Verdict(_files_passed(kept), _moment(kept["verified_at"]))
    except (KeyError, TypeError, ValueError):
        return Verdicts()
    try:
        drill = kept["drill"]
        at = _moment(drill["drilled_at"]) if "drilled_at" in drill else verified.at
        return Verdicts(verified, Verdict(drill["passed"] is True, at))
    except (KeyError, TypeError, ValueError):
        return Verdicts(verified)


def keep_verdict(directory: BackupDirectory, verdict: SetVerdict) -> None:
    """Write the verdict beside its set, with the last restore test if this one made none.

    Raises:
        StorageError: the storage refuses.
    """
    data = verdict.model_dump(mode="json")
    if verdict.drill is None:
        earlier = _kept(directory, verdict.timestamp)
        drill = earlier.get("drill")
        if isinstance(drill, dict):
            data["drill"] = {"drilled_at": earlier.get("verified_at"), **drill}
    drill_passed = data["drill"] is None or data["drill"].get("passed") is True
    data["passed"] = verdict.files_passed is True and drill_passed
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    directory.replace(verdict_name(verdict.timestamp), text.encode())


def _kept(directory: BackupDirectory, stamp: str) -> Mapping[str, Any]:
    try:
        kept = json.loads(b"".join(directory.read(verdict_name(stamp))))
    except (ValueError, ResourceNotFound):
        return {}
    return kept if isinstance(kept, dict) else {}


def _files_passed(kept: Mapping[str, Any]) -> bool:
    # Verdicts of the first version did not tell the files from the restore test.
    return kept.get("files_passed", kept["passed"]) is True


def _moment(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("has no time zone")
    return moment
