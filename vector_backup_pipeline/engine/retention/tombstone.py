"""The tombstone: what says that a set is being removed, and which files that takes.

It is written before anything is removed and removed after everything else, and while it is there
what is left of the set is no set. The manifest goes first: so a removal has begun when that is gone
or, of files that never had one, when any of them is.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationError

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.manifest import check_bare
from vector_backup_pipeline.engine.record import Record

_BareName = Annotated[str, AfterValidator(check_bare)]


class Tombstone(Record):
    """`files` are the data files, without the manifest and the verdict; None where there are none
    of these."""

    schema_version: Literal[1] = 1
    tool: Literal["vector_backup_pipeline"] = "vector_backup_pipeline"
    tool_version: str
    timestamp: str
    written_at: datetime
    run_id: str
    reasons: list[str]
    manifest: _BareName | None
    verdict: _BareName | None
    files: list[_BareName]

    @property
    def names(self) -> list[str]:
        """All that it takes, in the order in which it goes."""
        return [name for name in (self.manifest, self.verdict) if name] + self.files

    def has_begun(self, names: Collection[str]) -> bool:
        """Whether something is gone already, by what is there."""
        if self.manifest is not None:
            return self.manifest not in names
        return any(file not in names for file in self.files)

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"


def read_tombstone(data: bytes, name: str, stamp: str) -> Tombstone:
    """Parse a stored tombstone of that timestamp.

    Raises:
        IntegrityError: it is none, or of another set.
    """
    try:
        found = Tombstone.model_validate_json(data)
    except ValidationError as error:
        raise IntegrityError(
            f"The tombstone {name} is damaged or was written by another version of this tool, so "
            "nobody knows which files were being removed. Look at those with its timestamp, and "
            "remove it by hand."
        ) from error
    if found.timestamp != stamp:
        raise IntegrityError(
            f"The tombstone {name} was renamed or copied: it is of {found.timestamp}. Nothing was "
            "removed by it; remove it by hand."
        )
    return found
