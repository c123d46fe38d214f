"""The checks before a truncate, and the truncate."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot, pin_snapshot
from vector_backup_pipeline.engine.postgres.truncate import check_before_truncate
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

Pin = Callable[..., PinnedSnapshot]


@pytest.fixture
def pin(langchain: Database) -> Iterator[Pin]:
    with ExitStack() as stack:

        def pin(*truncated: str) -> PinnedSnapshot:
            settings = settings_for(langchain.url)
            pinned = pin_snapshot(settings, [EMBEDDINGS], truncated, workers=1, lock_timeout=1)
            return stack.enter_context(closing(pinned))

        yield pin


@pytest.mark.parametrize("exported", [57, 59, 0])
def test_a_backup_with_another_number_of_rows_stops_the_truncate(pin: Pin, exported: int) -> None:
    with pytest.raises(IntegrityError, match=f"58 rows but its backup has {exported}"):
        check_before_truncate(pin(EMBEDDINGS), {EMBEDDINGS: exported})


def test_without_the_writers_lock_nothing_is_truncated(pin: Pin) -> None:
    with pytest.raises(IntegrityError, match="no longer holds its lock"):
        check_before_truncate(pin(), {EMBEDDINGS: 58})
