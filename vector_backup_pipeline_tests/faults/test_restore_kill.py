"""A killed restore has restored all or nothing, and the next one succeeds."""

import pytest

from vector_backup_pipeline_tests.faults.stopped import stopped
from vector_backup_pipeline_tests.faults.watching import wait_until_nothing_is_open
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import (
    RestoreMaker,
    everything_in,
    rows_of,
    staging_schemas,
)

_INDEX = "CREATE INDEX near ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops)"


@pytest.fixture
def whole(langchain: Database, backup: BackupMaker) -> str:
    """What is in the database of `langchain` at the time of its backup."""
    langchain.run(_INDEX)
    assert backup(langchain.url).error is None
    return everything_in(langchain)


@pytest.mark.parametrize("step", ["loading", "committed"])
def test_killed_at_a_step_existing_tables_are_as_before_or_restored(
    langchain: Database, whole: str, restore: RestoreMaker, step: str
) -> None:
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id > 'doc-3'")
    before = everything_in(langchain)

    with stopped("restore", restore.root, step, langchain):
        pass
    wait_until_nothing_is_open(langchain)

    assert everything_in(langchain) == (whole if step == "committed" else before)
    restore.succeeds(langchain, truncate_before_restore=True)
    assert everything_in(langchain) == whole


@pytest.mark.parametrize("step", ["proven", "committed"])
def test_killed_at_a_step_new_tables_are_not_there_or_whole(
    langchain: Database, whole: str, restore: RestoreMaker, step: str
) -> None:
    rows = rows_of(langchain)
    langchain.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")

    with stopped("restore", restore.root, step, langchain):
        pass
    wait_until_nothing_is_open(langchain)

    if step == "committed":
        assert rows_of(langchain) == rows
        assert staging_schemas(langchain) == []
        return
    assert langchain.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    # The last step before COMMIT emptied the schema, and was rolled back.
    (staging,) = staging_schemas(langchain)
    done = restore.succeeds(langchain)
    assert any(staging in notice for notice in done.result.notices)
    assert rows_of(langchain) == rows
