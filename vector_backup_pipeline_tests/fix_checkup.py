"""Checks of a configuration, called through the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.checkup import CheckPlan, Finding, check_configuration
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalRoot
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, TIMESTAMPS

EMBEDDINGS = "langchain_pg_embedding"


@dataclass(frozen=True)
class Found:
    """What a check has found, by area and name."""

    findings: Sequence[Finding]

    def __getitem__(self, place: str) -> Finding:
        area, _, name = place.partition(": ")
        (finding,) = [f for f in self.findings if (f.area, f.name) == (area, name)]
        return finding

    def of_status(self, *statuses: str) -> list[str]:
        return [f"{f.area}: {f.name}" for f in self.findings if f.status in statuses]

    @property
    def text(self) -> str:
        return "\n".join(f"{each.message} {each.advice}" for each in self.findings)


@dataclass(frozen=True)
class Checker:
    """Checks a backup into a root of the test's own."""

    root: Path

    def plan(self, url: str | None, **changed: Any) -> CheckPlan:
        connection = None
        if url is not None:
            connection = ConnectionSettings.from_installation(SecretText(url), "the test")
        root: BackupRoot = LocalRoot(str(self.root), "vector_bak")
        given: dict[str, Any] = {
            "connection": connection,
            "root": root,
            "timestamps": TIMESTAMPS,
            "task_id": None,
            "tables": LANGCHAIN,
            "truncate_tables": (EMBEDDINGS,),
            "workers": 2,
            "export_method": "copy",
            "lock_timeout": 1.0,
            "expected_every": timedelta(days=1),
        }
        return CheckPlan(**given | changed)

    def __call__(self, url: str | None, **changed: Any) -> Found:
        return Found(list(check_configuration(self.plan(url, **changed))))

    @property
    def paths(self) -> list[str]:
        """All that lies in the root."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


def clock_off_by(difference: timedelta) -> Callable[[], datetime]:
    """This machine's clock, as far before the true time."""
    return lambda: datetime.now(timezone.utc) + difference


@pytest.fixture
def check(tmp_path: Path) -> Checker:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)  # A test that makes backups too has it already.
    return Checker(root)
