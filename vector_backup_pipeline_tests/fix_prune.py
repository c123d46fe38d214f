"""Prunes made through the engine, of the test's own root."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.results import PrunedLocation, PruneResult
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline_tests.fix_sets import SetWriter

LAST_1 = KeepRules(keep_last=1)


@dataclass(frozen=True)
class FinishedPrune:
    result: PruneResult
    error: BackupError | None

    @property
    def location(self) -> PrunedLocation:
        """The only location."""
        (location,) = self.result.locations
        return location

    @property
    def removed(self) -> list[str]:
        return [backup.timestamp for backup in self.location.removed]

    @property
    def kept(self) -> dict[str, str]:
        return {backup.timestamp: "; ".join(backup.reasons) for backup in self.location.kept}


def prune_root(root: Path | str, rules: KeepRules = LAST_1, **options: Any) -> FinishedPrune:
    """A complete prune, by default of all locations."""
    parameters = PruneParameters(**options)
    run = PruneRun(parameters, rules, BackupRoot(str(root), "vector_bak"), run_id="prune")
    try:
        for key in run.find():
            run.prune(key)
    finally:
        result = run.close()
    return FinishedPrune(result, run.error)


@contextmanager
def stopped_at(call: int) -> Iterator[None]:
    """Fail the change of that number and all later ones, as if the process had been killed."""
    calls = iter(range(call))

    def dying(name: str) -> Any:
        original = getattr(BackupDirectory, name)

        def change(*arguments: Any) -> Any:
            if next(calls, None) is None:
                raise _Killed
            return original(*arguments)

        return change

    class _Killed(BaseException):
        pass

    with (
        suppress(_Killed),
        patch.multiple(BackupDirectory, delete=dying("delete"), replace=dying("replace")),
    ):
        yield


@pytest.fixture
def sets(tmp_path: Path) -> SetWriter:
    """The sets in the root's own directory."""
    return SetWriter(tmp_path / "vector_bak")


@pytest.fixture
def two(sets: SetWriter) -> SetWriter:
    """Two sets in the root's own directory. `LAST_1` keeps the second."""
    sets.write("20260101_020000")
    sets.write("20260102_020000")
    return sets


Prune = Callable[..., FinishedPrune]


@pytest.fixture
def prune(tmp_path: Path) -> Prune:
    return lambda *arguments, **options: prune_root(tmp_path, *arguments, **options)
