"""Processes that tests start. None outlives its test or blocks it."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def child(
    arguments: Sequence[str | Path], *, seconds: float | None = 120, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process with text streams, killed at the end of the block or after `seconds`, so that no
    test waits longer."""
    process = subprocess.Popen(arguments, text=True, **options)
    try:
        with contextlib.nullcontext() if seconds is None else killed_after(seconds, process):
            yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def killed_after(seconds: float, process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill the process and its descendants, unless the block ends before."""
    timer = threading.Timer(seconds, kill_with_its_children, [process])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def kill_with_its_children(process: subprocess.Popen[Any]) -> None:
    """Its descendants could keep its pipes open."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for descendant in children:
        with contextlib.suppress(psutil.Error):
            descendant.kill()


def hears(process: subprocess.Popen[str]) -> str:
    """Read its next line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_alive(pid: int) -> bool:
    # In a container without an init process, orphans remain as zombies.
    try:
        return str(psutil.Process(pid).status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(process: subprocess.Popen[Any], number: signal.Signals, seconds: float) -> None:
    """End it by a signal. If it takes longer, it is killed, which is an error."""
    process.send_signal(number)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill_with_its_children(process)
        process.wait()
        raise
