"""Restores made through the engine, and their results."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.encryption import NO_ENCRYPTION, Encryption
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.restore import target
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import FailedTable, RestoredTable, RestoreResult
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline_tests.faults.watching import wait_until_nothing_is_open
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

DEFAULTS: dict[str, Any] = {
    "timestamp": "latest",
    "backup_path": None,
    "workers": 2,
    "probes": 0,
}
TRUNCATING: dict[str, Any] = {"truncate_before_restore": True}


@dataclass
class FinishedRestore:
    """The result of a restore and its error."""

    result: RestoreResult
    error: BackupError | None

    @property
    def error_type(self) -> str | None:
        return self.error.error_type if self.error else None

    @property
    def message(self) -> str:
        return str(self.error)

    def restored(self, table: str) -> RestoredTable:
        entry = self.result.restore_results[table]
        assert isinstance(entry, RestoredTable), entry
        return entry


def no_target() -> ConnectionSettings:
    """For a restore that must not connect."""
    pytest.fail("the target was connected to")


@dataclass
class RestoreMaker:
    """Runs the steps of a restore as the job does."""

    root: Path
    lock_timeout: float = 2.0
    between: dict[str, Callable[[], None]] = field(default_factory=dict)
    url: str | None = None
    encryption: Encryption = NO_ENCRYPTION

    def run(self, **parameters: Any) -> RestoreRun:
        """A run that has not started; the caller calls its steps."""
        return RestoreRun(
            RestoreParameters(**{**DEFAULTS, **parameters}),
            BackupRoot(self.url or str(self.root), "vector_bak", encryption=self.encryption),
            lock_timeout=self.lock_timeout,
            run_id=str(uuid.uuid4()),
        )

    def __call__(
        self, url: str, listener: ProgressListener = lambda _: None, **parameters: Any
    ) -> FinishedRestore:
        """A complete restore. `between` has functions to call before the steps of these names."""
        run = self.run(**parameters)
        try:
            settings = settings_for(url)
            run.find(lambda: settings)
            self._step("prepare")
            loads = run.prepare()
            self._step("load")
            for load in loads:
                run.load(load.table, listener)
            self._step("build")
            run.build_indexes()
            self._step("prove")
            run.prove()
            run.measure_recall()
            self._step("finish")
        except BackupError:
            pass
        finally:
            result = run.close()
        return FinishedRestore(result, run.error)

    def _step(self, name: str) -> None:
        self.between.get(name, lambda: None)()

    def succeeds(
        self, database: Database, listener: ProgressListener = lambda _: None, **parameters: Any
    ) -> FinishedRestore:
        """A restore that must succeed and leave nothing behind."""
        done = self(database.url, listener, **parameters)
        assert done.error is None, done.error
        assert done.result.restore_performed
        assert done.result.errors == []
        assert all(entry.success for entry in done.result.restore_results.values())
        wait_until_nothing_is_open(database)
        assert staging_schemas(database) == []
        return done

    def fails(
        self,
        database: Database,
        error_type: str,
        *words: str,
        url: str | None = None,
        listener: ProgressListener = lambda _: None,
        **parameters: Any,
    ) -> FinishedRestore:
        """A restore that must fail, with all `words` in its message, and change nothing."""
        with untouched(database):
            done = self(url or database.url, listener, **parameters)
        self.check_failure(done, error_type, *words)
        return done

    def check_failure(self, done: FinishedRestore, error_type: str, *words: str) -> None:
        """Check that error and result agree that nothing was restored, and why."""
        assert done.error_type == error_type, done.message
        for word in words:
            assert word in done.message
        result = done.result
        assert (result.restore_performed, result.truncate_performed) == (False, False)
        assert all(isinstance(entry, FailedTable) for entry in result.restore_results.values())
        (line,) = result.errors
        assert f"{error_type}: {done.message}" in line
        if result.backup_info is not None and (log := self._log(result)):
            assert f"FAILED ({error_type})" in log.split("=" * 20)[-1]

    def _log(self, result: RestoreResult) -> str | None:
        assert result.backup_info is not None
        path = Path(result.backup_info.backup_path) / "vector_backup_log.txt"
        return path.read_text() if path.exists() else None


@pytest.fixture
def restore(backup: BackupMaker) -> RestoreMaker:
    """Restores what `backup` has made."""
    return RestoreMaker(backup.root)


Saved = Callable[..., Database]


@pytest.fixture
def saved(database: Database, backup: BackupMaker) -> Saved:
    """Runs statements in the database and backs up the tables named after them."""

    def make(statements: str, *tables: str, **parameters: Any) -> Database:
        database.run(statements)
        made = backup(database.url, tables=tables, **parameters)
        assert made.error is None, made.error
        return database

    return make


@pytest.fixture
def corpus(langchain: Database, backup: BackupMaker) -> Database:
    """LangChain's tables, with a backup."""
    assert backup(langchain.url).error is None
    return langchain


@pytest.fixture
def in_staging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use several connections also for few rows, if all tables are new."""
    monkeypatch.setattr(target, "_WORTH_CONNECTIONS", 0)


def everything_in(database: Database) -> str:
    """The database as `pg_dump` writes it, with each table's rows sorted: their order on disk does
    not matter."""
    return "\n".join(_with_sorted_rows(pg_dump(database)))


def rows_of(database: Database) -> list[str]:
    """Every table's rows and every sequence's value, sorted: equal for databases with the same
    contents, however their tables were created."""
    return sorted(pg_dump(database, "--data-only", "--no-owner"))


@contextmanager
def untouched(database: Database) -> Iterator[None]:
    """Check that the block leaves `database` unchanged, and no session open."""
    before = everything_in(database)
    yield
    wait_until_nothing_is_open(database)
    assert staging_schemas(database) == []
    assert everything_in(database) == before


@contextmanager
def kept_from_locking(database: Database, table: str) -> Iterator[None]:
    """Another session writes to `table`: a restore that reaches its locks fails with a lock
    timeout, and one with another error failed before them."""
    with database.session() as session, session.cursor() as cursor:
        cursor.execute(SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(Identifier(table)))
        yield


def staging_schemas(database: Database) -> list[str]:
    rows = database.ask("SELECT nspname FROM pg_namespace WHERE nspname ~ '^vector_restore_'")
    return [name for (name,) in rows]


def pg_dump(
    database: Database, *options: str, of_server: EmbeddedServer | None = None
) -> list[str]:
    """The lines of the `pg_dump` of that server, or of the database's own."""
    server = of_server or database.server
    done = subprocess.run(
        [server.bin_directory / "pg_dump", *options, database.url],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    # Newer versions write a random key against injected psql commands.
    guards = ("\\restrict ", "\\unrestrict ")
    return [line for line in done.stdout.splitlines() if not line.startswith(guards)]


def _with_sorted_rows(lines: list[str]) -> Iterator[str]:
    rows: list[str] | None = None
    for line in lines:
        if rows is None:
            yield line
            rows = [] if line.startswith("COPY ") else None
        elif line == "\\.":
            yield from [*sorted(rows), line]
            rows = None
        else:
            rows.append(line)
