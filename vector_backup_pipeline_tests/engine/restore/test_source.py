"""Which set a restore uses, and from which location."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.file_names import manifest_name
from vector_backup_pipeline_tests.faults.watching import count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    Saved,
    kept_from_locking,
    no_target,
)
from vector_backup_pipeline_tests.fix_sets import SetWriter


@pytest.mark.parametrize(
    ("parameters", "error_type", "words"),
    [
        ({"timestamp": "20200101_000000"}, "RESOURCE_NOT_FOUND", "no backup set 20200101_000000"),
        ({"tables": ("docs",)}, "RESOURCE_NOT_FOUND", "no complete backup set that has docs"),
        ({"rename": {"docs": "x"}}, "INVALID_PARAMS", "rename names 'docs', which is not among"),
        ({"task_id": "no_such_task"}, "RESOURCE_NOT_FOUND", "no_such_task does not exist"),
        ({"backup_path": "root/no_such"}, "RESOURCE_NOT_FOUND", "vector-backup list"),
        ({"backup_path": "/etc"}, "INVALID_PARAMS", "outside of the root"),
    ],
)
def test_a_missing_set_is_reported_before_connecting(
    restore: RestoreMaker, parameters: dict[str, Any], error_type: str, words: str
) -> None:
    SetWriter(restore.root / "vector_bak").write("20250102_030405")
    run = restore.run(**parameters)

    with pytest.raises(BackupError) as raised:
        run.find(no_target)
    result = run.close()

    assert raised.value.error_type == error_type
    assert words in str(raised.value)
    assert not result.restore_performed
    assert run.server is None


def test_latest_is_of_the_database_that_is_restored_into(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    made = backup(langchain.url)
    SetWriter(restore.root / "vector_bak").write("20990102_030405", database="other")

    for parameters, stamp in (({}, made.stamp), ({"source_database": "other"}, "20990102_030405")):
        run = restore.run(**parameters)
        assert run.find(lambda: settings_for(langchain.url)).timestamp == stamp
        run.close()


def test_a_set_of_another_database_and_one_of_the_future_are_restored_with_notices(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    made = backup(langchain.url)
    path = made.directory / manifest_name(str(made.stamp))
    server = made.manifest.server.model_copy(update={"database": "other"})
    later = datetime.now(timezone.utc) + timedelta(days=1)
    changed = made.manifest.model_copy(update={"server": server, "created_at": later})
    path.write_bytes(changed.to_json())

    done = restore.succeeds(langchain, truncate_before_restore=True)

    target = f"{server.system_identifier}/{langchain.name}"
    assert any(
        f"backup of the database {server.system_identifier}/other" in notice and target in notice
        for notice in done.result.notices
    )
    assert any("created in the future" in notice for notice in done.result.notices)
    done = restore.succeeds(langchain, timestamp=made.stamp, truncate_before_restore=True)
    assert not any("/other" in notice for notice in done.result.notices)


def test_a_tasks_set_is_found_by_the_task(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    (backup.root / "task_1").mkdir()
    made = backup(langchain.url, task_id="task_1")
    backup(langchain.url, tables=("langchain_pg_collection",))

    done = restore.succeeds(langchain, task_id="task_1", **TRUNCATING)

    assert done.result.backup_info is not None
    assert Path(done.result.backup_info.backup_path) == made.directory.resolve()
    log = (made.directory / "vector_backup_log.txt").read_text()
    assert f"restore {made.stamp}: SUCCESS" in log
    assert "Task: task_1" in log.split("restore")[1]


def test_a_table_is_found_however_it_is_spelled(saved: Saved, restore: RestoreMaker) -> None:
    for backed_up_as, asked_for in (
        ("docs", "public.docs"),
        ("public.docs", "docs"),
        ("public.docs", 'public."docs"'),
    ):
        database = saved(
            "DROP TABLE IF EXISTS docs; CREATE TABLE docs (id int PRIMARY KEY);"
            "INSERT INTO docs VALUES (1)",
            backed_up_as,
        )
        database.run("DELETE FROM docs")

        done = restore.succeeds(database, tables=(asked_for,))

        assert list(done.result.restore_results) == [backed_up_as]
        assert count(database, "docs") == 1


def test_a_bare_name_that_fits_two_tables_is_refused(saved: Saved, restore: RestoreMaker) -> None:
    database = saved(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.docs (id int PRIMARY KEY);"
        "CREATE TABLE b.docs (id int PRIMARY KEY); INSERT INTO b.docs VALUES (1)",
        "a.docs",
        "b.docs",
    )

    restore.fails(database, "RESOURCE_NOT_FOUND", "It has: a.docs, b.docs", tables=("docs",))
    restore.succeeds(database, tables=("b.docs",), **TRUNCATING)


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({"docs": "a", "public.docs": "b"}, "twice"),
        ({"docs": "notes"}, "would both go into public.notes"),
    ],
)
def test_a_contradictory_rename_is_refused(
    saved: Saved, restore: RestoreMaker, rename: dict[str, str], words: str
) -> None:
    database = saved(
        "CREATE TABLE docs (id int PRIMARY KEY); CREATE TABLE notes (id int PRIMARY KEY)",
        "docs",
        "notes",
    )

    with kept_from_locking(database, "notes"):
        restore.fails(database, "INVALID_PARAMS", words, rename=rename)


def test_a_file_outside_of_the_sets_directory_is_never_read(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run("CREATE TABLE docs (id int PRIMARY KEY)")
    made = backup(database.url, tables=("docs",))
    (made.directory.parent / "secret.csv").write_text("root:secret")
    assert made.stamp is not None
    path = made.directory / manifest_name(made.stamp)
    text = path.read_text().replace(made.file("docs").name, "../secret.csv")
    path.write_text(re.sub('"checksum": "[0-9a-f]+"', '"checksum": null', text))

    done = restore(database.url, timestamp=made.stamp)

    assert done.error_type == "INTEGRITY_ERROR"
    assert "damaged" in done.message
    assert "secret" not in done.message
