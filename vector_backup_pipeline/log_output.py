"""Where the package's log lines go: a run's to its compute logs, a command's to the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_LOGGER = logging.getLogger("vector_backup_pipeline")
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def log_output(stream: TextIO | None, level: int) -> Iterator[None]:
    """Write the package's log lines from `level` on to `stream`, if the process has it."""
    if stream is None:
        yield
        return
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(_FORMAT))
    earlier = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(min(level, _LOGGER.getEffectiveLevel()))
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(earlier)
