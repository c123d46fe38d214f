"""The sections of the log."""

from pathlib import Path

from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database


def _log(directory: Path) -> str:
    return (directory / "vector_backup_log.txt").read_text()


def test_each_success_has_a_section_and_the_newest_is_the_last(
    langchain: Database, backup: BackupMaker
) -> None:
    (backup.root / "task_1").mkdir()
    first = backup(langchain.url, task_id="task_1")
    second = backup(langchain.url, task_id="task_1", truncate_vector_tables=True)

    log = _log(first.directory)
    assert log.index(f"backup {first.stamp}: SUCCESS") < log.index(
        f"backup {second.stamp}: SUCCESS"
    )
    assert "Task: task_1 " in log
    assert f"database {langchain.name}, PostgreSQL 18" in log
    size = first.path("langchain_pg_collection").stat().st_size
    name = first.file("langchain_pg_collection").name
    assert f"  ✓ langchain_pg_collection: 4 rows -> {name} ({size:.1f} B)\n" in log
    assert "Truncate: not requested\nErrors: none\n" in log
    assert "  ✓ langchain_pg_embedding: 58 rows before, 0 after\n" in log


def test_the_log_has_a_failed_table_and_the_tables_not_truncated_for_it(
    langchain: Database, backup: BackupMaker
) -> None:
    made = backup(
        langchain.url, tables=("nowhere", "langchain_pg_embedding"), truncate_vector_tables=True
    )
    log = _log(made.directory)
    assert "FAILED (TABLE_NOT_FOUND)" in log
    assert "  ✗ nowhere: FAILED - The table nowhere" in log
    assert "Truncate: nothing was truncated\n" in log
    assert "Errors:\n  nowhere: TABLE_NOT_FOUND: The table nowhere" in log


def test_the_log_has_a_canceled_run(langchain: Database, backup: BackupMaker) -> None:
    run = backup.run()
    run.resolve()
    run.canceled_by = "a test"
    result = run.close()
    log = _log(backup.root / "vector_bak")
    assert ": CANCELED by a test\n" in log
    assert "(not reached)" in log
    assert not result.backup_performed
