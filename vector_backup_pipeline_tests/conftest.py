"""Fixtures for every test, by subject in the `fix_*` modules; where and in what order tests run."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = [
    # First: the others import from it, and pytest must import it before.
    "vector_backup_pipeline_tests.fix_postgres",
    "vector_backup_pipeline_tests.fix_backup",
    "vector_backup_pipeline_tests.fix_checkup",
    "vector_backup_pipeline_tests.fix_object_store",
    "vector_backup_pipeline_tests.fix_prune",
    "vector_backup_pipeline_tests.fix_restore",
    "vector_backup_pipeline_tests.fix_sinks",
    "vector_backup_pipeline_tests.fix_rows",
    # Last: it imports from the others, which pytest must import first.
    "vector_backup_pipeline_tests.fix_chains",
    "vector_backup_pipeline_tests.fix_dagster",
    "vector_backup_pipeline_tests.fix_definitions",
    "vector_backup_pipeline_tests.fix_incremental",
    "vector_backup_pipeline_tests.fix_terminal",
    "vector_backup_pipeline_tests.fix_api",
]

_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest and tempfile make folders of their own in it
_ROOM_NEEDED = 4 << 30


def pytest_configure() -> None:
    """Work in memory where there is room: over a thousand databases are made, and on a disk all
    takes half as long again. TMPDIR names another location."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's "&" makes a process ignore SIGINT, and the processes that it starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and _has_room(_MEMORY):
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None


def _has_room(directory: Path) -> bool:
    try:
        return shutil.disk_usage(directory).free >= _ROOM_NEEDED
    except OSError:
        return False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Files are spread over the processes, those of `end_to_end` as one: they share a Dagster. They
    take the longest, so they begin first, in the order of collection."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            package, found, _ = nodeid.partition("/end_to_end/")
            return package + found if found else super()._split_scope(nodeid)

    return Scheduling(config, log)
