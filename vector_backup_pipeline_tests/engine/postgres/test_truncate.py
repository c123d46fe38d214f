"""The truncate itself: what it checks before."""

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.postgres.snapshot import pin_snapshot
from vector_backup_pipeline.engine.postgres.truncate import check_before_truncate, truncate_tables
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS, count, settings_for
from vector_backup_pipeline_tests.fix_postgres import Database


def test_the_rows_after_are_told(langchain: Database) -> None:
    pinned = pin_snapshot(
        settings_for(langchain.url), [EMBEDDINGS], [EMBEDDINGS], workers=1, lock_timeout=1
    )
    check_before_truncate(pinned, {EMBEDDINGS: 58})
    assert truncate_tables(pinned, [EMBEDDINGS]) == {EMBEDDINGS: 0}
    pinned.close()
    assert count(langchain) == 0


@pytest.mark.parametrize("exported", [57, 59, 0])
def test_a_backup_of_another_number_of_rows_is_found_out(
    langchain: Database, exported: int
) -> None:
    pinned = pin_snapshot(
        settings_for(langchain.url), [EMBEDDINGS], [EMBEDDINGS], workers=1, lock_timeout=1
    )
    with pytest.raises(IntegrityError, match=f"58 rows but its backup has {exported}"):
        check_before_truncate(pinned, {EMBEDDINGS: exported})
    pinned.close()


def test_without_the_writers_lock_nothing_is_truncated(langchain: Database) -> None:
    pinned = pin_snapshot(settings_for(langchain.url), [EMBEDDINGS], [], workers=1, lock_timeout=1)
    with pytest.raises(IntegrityError, match="no longer holds its lock"):
        check_before_truncate(pinned, {EMBEDDINGS: 58})
    pinned.close()
