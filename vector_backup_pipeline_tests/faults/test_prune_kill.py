"""A prune that is killed or fails at any moment leaves no partial set: the set is complete and
listed, or not a set, and the next prune removes the rest."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.catalog.contents import has_backup
from vector_backup_pipeline.engine.catalog.locations import find_locations
from vector_backup_pipeline.engine.catalog.run_marker import remove_leftovers
from vector_backup_pipeline.engine.errors import ResourceNotFound
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name, tombstone_name
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.faults.stopped_prune import STEPS
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS
from vector_backup_pipeline_tests.fix_process import child, hears
from vector_backup_pipeline_tests.fix_prune import Prune
from vector_backup_pipeline_tests.fix_sets import EMBEDDING, SetWriter, find_set, read_sets

OLD, NEW = "20260101_020000", "20260102_020000"


def _names(sets: SetWriter) -> set[str]:
    return set(sets.directory.names()) - {"vector_backup_log.txt"}


def _write_new(sets: SetWriter) -> set[str]:
    """Write the set that is kept; returns the names of its files."""
    sets.write(NEW)
    sets.verdict(NEW)
    return _names(sets)


def _check_no_half_set(sets: SetWriter) -> bool:
    """Whether the old set still exists; checks that it is complete then."""
    stamps = {stored_set.stamp for stored_set in read_sets(sets.directory, TIMESTAMPS)}
    assert NEW in stamps
    assert find_set(sets.directory, TIMESTAMPS, "latest", None).stamp == NEW
    if OLD in stamps:
        assert find_set(sets.directory, TIMESTAMPS, OLD, None).complete
        return True
    with pytest.raises(ResourceNotFound, match=OLD):
        find_set(sets.directory, TIMESTAMPS, OLD, None)
    (location,) = find_locations(BackupRoot(str(sets.path.parent), "vector_bak"), TIMESTAMPS)
    assert {file.state for file in location.other_files} <= {"removed"}
    return False


@pytest.mark.parametrize("step", STEPS)
def test_the_next_prune_ends_what_a_killed_one_began(
    tmp_path: Path, sets: SetWriter, prune: Prune, step: str
) -> None:
    left = _write_new(sets)
    _manifest_set(sets)

    _run_until_killed(tmp_path, step)

    assert _check_no_half_set(sets) == (step == "writing the tombstone")
    remove_leftovers(sets.directory, TIMESTAMPS)
    assert (tombstone_name(OLD) in _names(sets)) == (step != "writing the tombstone")
    done = prune()
    assert done.error is None
    (removed,) = (*done.location.removed, *done.location.finished)
    assert removed.timestamp == OLD
    assert _names(sets) == left


def _run_until_killed(root: Path, step: str) -> None:
    command = [sys.executable, "-m", "vector_backup_pipeline_tests.faults.stopped_prune"]
    with child(
        [*command, str(root), step], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert hears(process) == "reached"


def _manifest_set(sets: SetWriter) -> None:
    sets.write(OLD)
    sets.verdict(OLD)


def _adopted_set(sets: SetWriter) -> None:
    sets.older(OLD)
    sets.adopt()
    (sets.path / LOG_NAME).unlink()
    sets.verdict(OLD)


def test_a_tombstone_without_removals_is_deleted_and_the_rules_apply_again(
    tmp_path: Path, sets: SetWriter, prune: Prune
) -> None:
    sets.write(NEW)
    sets.write(OLD)
    _run_until_killed(tmp_path, "tombstone written")
    # The newer set, which allowed the removal of the old one, is lost meanwhile.
    (sets.path / manifest_name(NEW)).unlink()

    planned = prune(dry_run=True)
    done = prune()

    assert done.location == planned.location
    assert done.kept == {OLD: "one of the last 1; newest good set"}
    assert find_set(sets.directory, TIMESTAMPS, "latest", None).stamp == OLD


@pytest.mark.parametrize("write", [_manifest_set, _adopted_set])
def test_beside_its_tombstone_a_set_is_none(
    sets: SetWriter, write: Callable[[SetWriter], None]
) -> None:
    write(sets)
    sets.file(tombstone_name(OLD))
    assert not has_backup(sets.directory, TIMESTAMPS)
    assert read_sets(sets.directory, TIMESTAMPS) == []
    with pytest.raises(ResourceNotFound, match="is being removed by a prune"):
        find_set(sets.directory, TIMESTAMPS, OLD, None)


def test_an_unreadable_tombstone_is_reported_and_removes_nothing(
    sets: SetWriter, prune: Prune
) -> None:
    sets.write(NEW)
    sets.file(f"{EMBEDDING}_{OLD}.csv")
    sets.file(tombstone_name(OLD), b"{")
    before = _names(sets)
    done = prune(include_orphans=True)
    assert done.result.errors[0].startswith(f"{sets.path}: INTEGRITY_ERROR: The tombstone ")
    assert _names(sets) == before
