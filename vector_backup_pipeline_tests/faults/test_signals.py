"""Signals at many moments of real runs, which end in order and leave nothing behind."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.cancellation import deferred_signals, listening
from vector_backup_pipeline.engine.errors import RunCancelled
from vector_backup_pipeline.engine.manifest import read_manifest
from vector_backup_pipeline_tests.faults.watching import (
    EMBEDDINGS,
    MORE_ROWS,
    count,
    wait_until,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, staging_schemas

_MOMENTS = 6
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Passed(BaseException):
    """Raised by the earlier handlers."""


def _signalled(seconds: float, action: Callable[[], object]) -> bool:
    """Run `action`, and send two signals after some seconds; whether one was raised again."""

    def raise_it(*_: object) -> None:
        raise _Passed

    def send() -> None:
        for number in _NUMBERS[:2]:
            os.kill(os.getpid(), number)

    before = {number: signal.signal(number, raise_it) for number in _NUMBERS}
    timer = threading.Timer(seconds, send)
    try:
        with listening():
            timer.start()
            action()
            # A signal after the end of the run must not reach later code.
            timer.cancel()
            timer.join()
    except _Passed as error:
        hidden = error.__context__
        assert hidden is None or isinstance(hidden, RunCancelled), repr(hidden)
        return True
    finally:
        timer.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    return False


def _steps(run: BackupRun, url: str) -> None:
    run.resolve()
    run.pin(lambda: settings_for(url))
    for table in LANGCHAIN:
        run.export(table, lambda _: None)
    run.truncate()
    run.finish()


def test_a_backup_that_truncates_ends_in_order_at_any_moment(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run(MORE_ROWS)
    began = time.monotonic()
    _steps(run := backup.run(workers=2), langchain.url)
    run.close()
    whole = 1.5 * (time.monotonic() - began)
    threads = set(threading.enumerate())
    passed = 0
    for moment in range(_MOMENTS):
        run = backup.run(workers=2, truncate_vector_tables=True)
        began = time.monotonic()
        if _signalled(whole * moment / _MOMENTS, partial(_steps, run, langchain.url)):
            passed += 1
        else:
            whole = min(whole, 1.5 * (time.monotonic() - began))
        with deferred_signals():
            result = run.close()

        wait_until_nothing_is_open(langchain)
        wait_until(lambda: set(threading.enumerate()) <= threads)
        directory = backup.root / "vector_bak"
        names = [path.name for path in directory.iterdir()] if directory.exists() else []
        assert not [name for name in names if name.endswith((".tmp", ".run"))]
        assert (count(langchain) == 0) is result.truncate_performed
        if result.truncate_performed:
            newest = max(directory.glob("vector_backup_*.json"))
            manifest = read_manifest(newest.read_bytes(), newest.name)
            assert (manifest.complete, manifest.truncate) == (True, "done")
            langchain.run("DELETE FROM langchain_pg_embedding")
            langchain.run(MORE_ROWS)
    assert passed > _MOMENTS // 3


@pytest.mark.usefixtures("in_staging")
def test_a_restore_into_nothing_ends_in_order_at_any_moment(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(MORE_ROWS)
    assert backup(langchain.url).error is None
    drop = "DROP TABLE IF EXISTS langchain_pg_collection, langchain_pg_embedding"
    langchain.run(drop)
    began = time.monotonic()
    assert restore(langchain.url).error is None
    whole = 1.2 * (time.monotonic() - began)
    passed = 0
    for moment in range(_MOMENTS):
        langchain.run(drop)
        began = time.monotonic()
        if _signalled(whole * moment / _MOMENTS, lambda: restore(langchain.url)):
            passed += 1
        else:
            # Faster than the first restore: adjust, so that later signals are not too late.
            whole = min(whole, 1.2 * (time.monotonic() - began))

        wait_until_nothing_is_open(langchain)
        assert staging_schemas(langchain) == []
        tables = langchain.ask(
            "SELECT relname FROM pg_class WHERE relname LIKE 'langchain%embedding'"
        )
        assert not tables or count(langchain, EMBEDDINGS) == 2558
    assert passed > _MOMENTS // 3
