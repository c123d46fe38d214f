"""Several connections load blocks of one file into new tables."""

import pytest

from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline_tests.faults.watching import EMBEDDINGS, sessions
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of

_MORE_ROWS = r"""
    INSERT INTO langchain_pg_embedding (id, embedding, document)
        SELECT 'more-' || i, '[1,2,3]', repeat(E'line\n"' || i, i % 50)
          FROM generate_series(1, 3000) i
"""


@pytest.fixture
def many_blocks(
    langchain: Database, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A backup with many blocks; returns its rows. The tables are dropped."""
    monkeypatch.setattr("vector_backup_pipeline.engine.formats.blocks.BLOCK_BYTES", 3000)
    monkeypatch.setattr("vector_backup_pipeline.engine.formats.blocks.INDEX_BYTES", 10_000)
    langchain.run(_MORE_ROWS)
    made = backup(langchain.url)
    assert len(made.file(EMBEDDINGS).blocks) > 20
    rows = rows_of(langchain)
    langchain.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")
    return rows


@pytest.mark.usefixtures("in_staging")
def test_whichever_connection_loads_a_block_every_row_is_there_once(
    langchain: Database, many_blocks: list[str], restore: RestoreMaker
) -> None:
    moments: list[Progress] = []
    open_within: list[int] = []

    def listen(moment: Progress) -> None:
        moments.append(moment)
        if moment.table == EMBEDDINGS and not open_within:
            open_within.append(sessions(langchain))

    done = restore.succeeds(langchain, listen, workers=4)

    assert rows_of(langchain) == many_blocks
    assert done.restored(EMBEDDINGS).digest_matches is True
    assert open_within == [5], "a coordinator and four workers"
    of_embeddings = [moment for moment in moments if moment.table == EMBEDDINGS]
    assert len(of_embeddings) > 20
    rows = [moment.rows for moment in of_embeddings]
    assert rows == sorted(rows)
    assert rows[-1] == 3058
    assert [m.percent for m in of_embeddings if m.percent == 100] == [100]


def test_small_tables_are_loaded_over_one_connection(
    langchain: Database, many_blocks: list[str], restore: RestoreMaker
) -> None:
    open_within: set[int] = set()

    restore.succeeds(langchain, lambda _: open_within.add(sessions(langchain)), workers=4)

    assert open_within == {1}
    assert rows_of(langchain) == many_blocks


@pytest.mark.usefixtures("in_staging")
def test_a_role_that_may_make_no_schema_restores_over_one_connection(
    langchain: Database, many_blocks: list[str], restore: RestoreMaker
) -> None:
    url = langchain.create_role("no_schemas")
    langchain.run("GRANT CREATE ON SCHEMA public TO no_schemas")

    done = restore(url)

    assert done.error is None, done.error
    assert rows_of(langchain) == many_blocks
    langchain.run("REASSIGN OWNED BY no_schemas TO postgres")
