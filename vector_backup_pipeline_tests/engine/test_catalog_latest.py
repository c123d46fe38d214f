"""`latest` never takes a set of another database, or one that lacks a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.choice import choose_set
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase, source_labels
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, ResourceNotFound
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS
from vector_backup_pipeline_tests.fix_sets import SetWriter

FIRST, SECOND, THIRD, FOURTH = (f"2025010{day}_000000" for day in (1, 2, 3, 4))
A, B, C = (SourceDatabase("7", name) for name in "abc")


@pytest.fixture
def sets(tmp_path: Path) -> SetWriter:
    writer = SetWriter(tmp_path / "vector_bak")
    writer.path.mkdir()
    return writer


def _write(sets: SetWriter, stamp: str, source: SourceDatabase, **more: Any) -> None:
    more = {"tables": {"docs": 1}, **more}
    sets.write(stamp, database=source.name, server=source.system_identifier, **more)


def _nobody() -> SourceDatabase:
    pytest.fail("the target was asked")


def _latest(
    sets: SetWriter,
    ask_target: Callable[[], SourceDatabase] = _nobody,
    source: str | None = None,
    tables: tuple[str, ...] | None = None,
) -> str:
    found = choose_set(sets.directory, TIMESTAMPS, "latest", tables, source, ask_target)
    return found.backup.stamp


def _refused(sets: SetWriter, kind: type[BackupError], *arguments: Any, **more: Any) -> str:
    with pytest.raises(kind) as raised:
        _latest(sets, *arguments, **more)
    return raised.value.message


def test_of_several_databases_the_one_that_is_restored_into_decides(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B)

    assert _latest(sets, lambda: A) == FIRST
    assert _latest(sets, lambda: B) == SECOND
    for target in (C, SourceDatabase("8", "a"), SourceDatabase(None, "a")):
        told = _refused(sets, InvalidParams, lambda target=target: target)
        assert "(a, b)" in told
        assert "source_database" in told


def test_the_only_database_is_taken_without_asking_the_target(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, A)
    sets.damaged(THIRD)

    assert _latest(sets) == SECOND


def test_source_database_is_the_value_that_the_list_shows(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B)

    assert _latest(sets, source="a") == FIRST
    assert _latest(sets, source="7/a") == FIRST
    assert "Databases with sets there: a, b." in _refused(sets, ResourceNotFound, source="c")

    _write(sets, THIRD, SourceDatabase("8", "a"))
    assert _latest(sets, source="8/a") == THIRD
    assert _latest(sets, source="7/a") == FIRST
    assert "7/a, 8/a, b" in _refused(sets, InvalidParams, source="a")


def test_an_unknown_server_is_told_from_a_known_one(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, SourceDatabase(None, "a"))

    assert set(source_labels([A, SourceDatabase(None, "a")]).values()) == {"7/a", "a"}
    assert _latest(sets, source="a") == SECOND
    assert _latest(sets, source="7/a") == FIRST


def test_a_database_with_incomplete_sets_alone_gets_no_other_one_s(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B, failed=["more"])

    assert "no complete one of the target 7/b" in _refused(sets, InvalidParams, lambda: B)
    assert _latest(sets, lambda: A) == FIRST
    assert "no complete backup set of the database b" in _refused(
        sets, ResourceNotFound, source="b"
    )


def test_latest_is_the_newest_set_that_has_all_tables(sets: SetWriter) -> None:
    _write(sets, FIRST, A, tables={"docs": 1, "app.notes": 1})
    _write(sets, SECOND, A, tables={"docs": 1})
    _write(sets, THIRD, A, tables={"other": 1})

    assert _latest(sets) == THIRD
    assert _latest(sets, tables=("docs",)) == SECOND
    assert _latest(sets, tables=("docs", "notes")) == FIRST
    assert _latest(sets, tables=("app.notes",)) == FIRST
    told = _refused(sets, ResourceNotFound, tables=("docs", "other"))
    assert "no complete backup set that has docs and other" in told


def test_databases_without_the_tables_do_not_count(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, B, tables={"other": 1})

    assert _latest(sets, tables=("docs",)) == FIRST
    told = _refused(sets, ResourceNotFound, tables=("docs",), source="b")
    assert "no complete backup set of the database b that has docs" in told


def test_only_newer_sets_of_the_same_database_are_passed_over(sets: SetWriter) -> None:
    _write(sets, FIRST, A)
    _write(sets, SECOND, A, failed=["more"])
    _write(sets, THIRD, B, failed=["more"])
    sets.damaged(FOURTH)

    found = choose_set(sets.directory, TIMESTAMPS, "latest", None, None, lambda: A)

    assert (found.backup.stamp, found.passed_over) == (FIRST, (SECOND, FOURTH))


def test_a_table_that_another_database_s_run_emptied_is_no_obstacle(sets: SetWriter) -> None:
    _write(sets, FIRST, B, truncate="done", truncated=["docs"])
    _write(sets, SECOND, A, tables={"docs": 0})

    assert _latest(sets, lambda: A) == SECOND
    _write(sets, FIRST, A, truncate="done", truncated=["docs"])
    assert FIRST in _refused(sets, InvalidParams)


def test_a_named_set_is_given_if_it_is_of_the_named_database(sets: SetWriter) -> None:
    _write(sets, FIRST, A)

    for text in ("a", "7/a", None):
        found = choose_set(sets.directory, TIMESTAMPS, FIRST, None, text, _nobody)
        assert found.backup.stamp == FIRST
    with pytest.raises(ResourceNotFound, match="is a backup of the database 7/a, not of 'b'"):
        choose_set(sets.directory, TIMESTAMPS, FIRST, None, "b", _nobody)
