"""Where output and log lines go."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO

_LOGGER = logging.getLogger("vector_backup_pipeline")


class TolerantOutput(io.TextIOWrapper):
    """A stream of its own onto the file of `stream`, which never raises.

    Characters that the encoding lacks are replaced. `failure` is the first error of the operating
    system: a closed pipe, a full disk. Raises `io.UnsupportedOperation` if `stream` has no file.
    """

    def __init__(self, stream: TextIO) -> None:
        stream.flush()
        super().__init__(
            os.fdopen(os.dup(stream.fileno()), "wb"),
            encoding=stream.encoding,
            errors="replace",
            line_buffering=True,
        )
        self.failure: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.failure = self.failure or error
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.failure = self.failure or error

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def tolerant_output() -> Iterator[None]:
    """Standard output and error as `TolerantOutput`, where they have files."""
    try:
        output, errors = TolerantOutput(sys.stdout), TolerantOutput(sys.stderr)
    except (io.UnsupportedOperation, AttributeError, ValueError, OSError):
        # The standard streams are closed or replaced.
        yield
        return
    with output, errors, redirect_stdout(output), redirect_stderr(errors):
        yield
        output.flush()
        if output.failure is not None and not isinstance(output.failure, BrokenPipeError):
            errors.write(f"Could not write to standard output: {output.failure}.\n")


@contextmanager
def log_output(stream: TextIO | None, level: int) -> Iterator[None]:
    """Write the package's log lines, from `level` up, to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    earlier_level = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(min(level, _LOGGER.getEffectiveLevel()))
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(earlier_level)
