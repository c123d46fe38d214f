"""Checks of a configuration, called through the engine."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.checkup import check_backup
from vector_backup_pipeline.engine.checkup.finding import Finding
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN
from vector_backup_pipeline_tests.fix_postgres import settings_for

EMBEDDINGS = "langchain_pg_embedding"


class Report:
    """The findings of a check, by area and name."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = list(findings)

    def __getitem__(self, key: str) -> Finding:
        (finding,) = [f for f in self.findings if f"{f.area}: {f.name}" == key]
        return finding

    def of_status(self, *statuses: str) -> list[str]:
        return [f"{f.area}: {f.name}" for f in self.findings if f.status in statuses]

    @property
    def text(self) -> str:
        return "\n".join(f"{finding.message} {finding.advice}" for finding in self.findings)


@dataclass(frozen=True)
class Checker:
    """Checks a backup into the test's own root."""

    root: Path

    def __call__(
        self,
        url: str = "postgresql://127.0.0.1:1/none",
        *,
        root: BackupRoot | None = None,
        lock_timeout: float = 1.0,
        **parameters: Any,
    ) -> Report:
        defaults: dict[str, Any] = {
            "tables": LANGCHAIN,
            "truncate_tables": (EMBEDDINGS,),
            "workers": 2,
        }
        return Report(
            check_backup(
                BackupRequest(**defaults | parameters),
                settings_for(url),
                root or BackupRoot(str(self.root), "vector_bak"),
                lock_timeout,
            )
        )

    @property
    def paths(self) -> list[str]:
        """All files and directories in the root."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@pytest.fixture
def check(tmp_path: Path) -> Checker:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)  # A test that also makes backups has created it already.
    return Checker(root)
