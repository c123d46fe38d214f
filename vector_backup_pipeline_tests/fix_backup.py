"""Backups made through the engine, and their results."""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.encryption import NO_ENCRYPTION, Encryption
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.file_names import manifest_name
from vector_backup_pipeline.engine.manifest import DataFile, Manifest, read_manifest
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_postgres import settings_for

LANGCHAIN = ("langchain_pg_collection", "langchain_pg_embedding")

_DEFAULTS: dict[str, Any] = {
    "tables": LANGCHAIN,
    "truncate_tables": ("langchain_pg_embedding",),
    "workers": 2,
}


@dataclass
class FinishedBackup:
    """The result of a run, its error and its directory."""

    result: BackupResult
    error: BackupError | None
    directory: Path
    stamp: str | None

    @property
    def manifest(self) -> Manifest:
        assert self.stamp is not None
        name = manifest_name(self.stamp)
        return read_manifest((self.directory / name).read_bytes(), name)

    def file(self, table: str) -> DataFile:
        (entry,) = [entry for entry in self.manifest.tables if entry.table == table]
        assert entry.file is not None
        return entry.file

    def path(self, table: str) -> Path:
        return self.directory / self.file(table).name

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@dataclass
class BackupMaker:
    """Runs the steps of a backup as the job does: every table, then the other steps."""

    root: Path
    lock_timeout: float = 2.0
    url: str | None = None
    """Of a root in object storage, instead of `root`."""
    between: dict[str, Callable[[], None]] = field(default_factory=dict)
    encryption: Encryption = NO_ENCRYPTION

    def run(self, **parameters: Any) -> BackupRun:
        """A run that has not started; the caller calls its steps."""
        return BackupRun(
            BackupRequest(**{**_DEFAULTS, **parameters}),
            BackupRoot(self.url or str(self.root), "vector_bak", encryption=self.encryption),
            lock_timeout=self.lock_timeout,
            run_id=str(uuid.uuid4()),
        )

    def __call__(
        self, url: str, listener: ProgressListener = lambda _: None, **parameters: Any
    ) -> FinishedBackup:
        """A complete run. `between` has functions to call before the steps of these names."""
        run = self.run(**parameters)
        stamp = None
        try:
            stamp = run.resolve()
            self._step("pin")
            settings = settings_for(url)
            run.pin(lambda: settings)
            self._step("export")
            for table in run.request.tables:
                try:
                    run.export(table, listener)
                except BackupError:
                    continue
            self._step("truncate")
            if run.error is None:
                run.truncate()
            self._step("finish")
            run.finish()
        except BackupError:
            pass
        finally:
            result = run.close()
        directory = Path(result.backup_directory or self.root)
        return FinishedBackup(result, run.error, directory, stamp)

    def _step(self, name: str) -> None:
        self.between.get(name, lambda: None)()


@pytest.fixture
def backup(tmp_path: Path) -> BackupMaker:
    """Makes backups in the test's own root."""
    root = tmp_path / "root"
    root.mkdir()
    return BackupMaker(root)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the user's settings and PG* variables."""
    for name in list(os.environ):
        if name.startswith((PREFIX, "PG", "DAGSTER_HOME")):
            monkeypatch.delenv(name)
    yield
