"""The room for the next backup. What it needs is an estimate; the newest set's size is known."""

from __future__ import annotations

from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed,
    failed_with,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.storage.contract import BackupRoot

_ADVICE = "Free space there, or set VECTOR_BACKUP_ROOT to a place with more."


def check_space(root: BackupRoot, expected_size: int | None, newest_size: int | None) -> Finding:
    """Sizes in bytes; None where nothing is known of them."""
    name = "free space"
    try:
        free = root.free_bytes()
    except BackupError as error:
        return failed_with("space", name, error)
    if free is None:
        return ok("space", name, "this kind of storage has no limit of its own")
    has = f"{readable_size(free)} are free under {root.location}"
    sources = {"estimated from the tables": expected_size, "as the newest backup": newest_size}
    known = {source: size for source, size in sources.items() if size is not None}
    if not known:
        return skipped("space", name, f"{has}; what a backup needs is not known")
    source, needed = max(known.items(), key=lambda item: item[1])
    told = f"{has}; the next backup takes about {readable_size(needed)} ({source})"
    if free < needed:
        return failed("space", name, told, _ADVICE)
    if free < 2 * needed:
        return warning("space", name, f"{told}, and there is no room for a second", _ADVICE)
    return ok("space", name, told)
