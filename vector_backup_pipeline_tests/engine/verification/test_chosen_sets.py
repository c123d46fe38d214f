"""Which sets a verification chooses if several databases are backed up."""

from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.choice import choose_set
from vector_backup_pipeline.engine.catalog.contents import read_contents
from vector_backup_pipeline.engine.catalog.stored_sets import stored_sets
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline_tests.fix_sets import SetWriter
from vector_backup_pipeline_tests.fix_verify import verify_root, verify_run

DAYS = {day: f"2025010{day}_000000" for day in range(1, 8)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sets of the databases a and b of one server, and in a task of another server's a."""
    sets = SetWriter(tmp_path / "vector_bak")
    for day, database in ((1, "a"), (2, "b"), (3, "a"), (5, "a")):
        sets.write(DAYS[day], {"t": 1}, database=database, server="7")
    sets.write(DAYS[6], {"t": 1}, failed=["u"], database="b", server="7")
    sets.damaged(DAYS[4])
    task = SetWriter(tmp_path / "task_1" / "vector_bak")
    task.write(DAYS[7], {"t": 1}, database="a", server="8")
    return tmp_path


def _days(root: Path, **parameters: Any) -> list[int]:
    chosen_sets = verify_run(root, **parameters).find()
    stamps = [chosen.stamp for chosen in chosen_sets.values()]
    return [day for stamp in stamps for day in DAYS if DAYS[day] == stamp]


def test_latest_is_the_newest_of_each_database_in_each_location(root: Path) -> None:
    # The damaged set may be of b, and newer than that one's newest.
    assert _days(root, timestamp="latest") == [2, 4, 5, 7]
    assert _days(root, timestamp="latest", source_database="b") == [2, 4]
    assert _days(root, timestamp="latest", source_database="7/a") == [5]


def test_the_sets_of_one_database_are_verified(root: Path) -> None:
    # A damaged set may be of any database.
    assert _days(root, source_database="b") == [2, 4, 6]
    assert _days(root, source_database="8/a") == [4, 7]
    assert _days(root, source_database="a", task_id="task_1") == [7]
    with pytest.raises(InvalidParams, match="7/a, 8/a, b"):
        _days(root, source_database="a")
    with pytest.raises(ResourceNotFound, match="Databases with sets there: 7/a, 8/a, b"):
        _days(root, source_database="c")
    with pytest.raises(ResourceNotFound, match=DAYS[2]):
        _days(root, source_database="8/a", timestamp=DAYS[2])


def test_a_latest_set_from_the_future_gets_a_notice(root: Path) -> None:
    SetWriter(root / "vector_bak").write("20990101_000000", {"t": 1}, database="b", server="7")
    (notice,) = verify_root(root, timestamp="latest", source_database="b").notices
    assert "20990101_000000" in notice
    assert "created in the future" in notice


def test_latest_is_also_a_newer_set_whose_base_is_missing(root: Path) -> None:
    sets = SetWriter(root / "vector_bak")
    sets.write(DAYS[7], {"t": 1}, builds_on="20241231_000000", database="a", server="7")
    assert _days(root, timestamp="latest", source_database="7/a") == [5, 7]
    run = verify_run(root, timestamp=DAYS[7], source_database="7/a")
    (key,) = run.find()
    verdict = run.verify(key)
    assert verdict is not None
    assert "builds on the set 20241231_000000, which is missing" in verdict.errors[0]
    run.close()


def test_sets_that_build_on_one_another_are_damaged(root: Path) -> None:
    sets = SetWriter(root / "vector_bak")
    sets.write(DAYS[6], {"t": 1}, builds_on=DAYS[7], database="c")
    sets.write(DAYS[7], {"t": 1}, builds_on=DAYS[6], database="c")
    stored = stored_sets(read_contents(sets.directory))
    assert [backup_set.state for backup_set in stored if backup_set.builds_on] == ["damaged"] * 2
    with pytest.raises(ResourceNotFound, match="no complete backup set of the database c"):
        choose_set(sets.directory, "latest", None, "c")
