"""Concurrent runs: both complete, and no lost rows."""

from vector_backup_pipeline_tests.faults.watching import (
    EMBEDDINGS,
    count,
    ids,
    ids_in,
    in_background,
    meeting,
    pinned_and_exported,
    wait_for_a_waiting_lock,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database


def test_runs_at_once_are_all_whole(langchain: Database, backup: BackupMaker) -> None:
    made: list[FinishedBackup] = []
    backup.between["pin"] = meeting(3)

    with (
        in_background(lambda: made.append(backup(langchain.url))),
        in_background(lambda: made.append(backup(langchain.url))),
    ):
        made.append(backup(langchain.url))

    assert [run.error for run in made] == [None] * 3
    assert len({run.stamp for run in made}) == 3
    assert all(run.manifest.complete and run.file(EMBEDDINGS).rows == 58 for run in made)
    log = (made[0].directory / "vector_backup_log.txt").read_text()
    assert log.count("SUCCESS") == log.count("✓ langchain_pg_embedding: 58 rows") == 3
    assert not [name for name in made[0].names if name.endswith((".tmp", ".run"))]


def test_of_two_truncating_runs_the_second_finds_what_the_first_has_left(
    langchain: Database, backup: BackupMaker
) -> None:
    before = ids(langchain)
    first = backup.run(truncate_vector_tables=True)
    second: list[FinishedBackup] = []
    backup.lock_timeout = 10
    try:
        stamp = pinned_and_exported(first, langchain.url)
        with in_background(
            lambda: second.append(backup(langchain.url, truncate_vector_tables=True))
        ):
            wait_for_a_waiting_lock(langchain)
            first.truncate()
            first.finish()
    finally:
        first.close()

    assert first.error is None
    assert second[0].error is None
    saved = set(ids_in(second[0].directory / f"{EMBEDDINGS}_{stamp}.csv"))
    assert saved | set(ids_in(second[0].path(EMBEDDINGS))) == before
    assert count(langchain) == 0
