"""A backup from beginning to end, through the engine alone."""

from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database


def test_a_backup_holds_every_row_of_every_table(langchain: Database, backup: BackupMaker) -> None:
    made = backup(langchain.url)

    assert made.error is None
    assert made.manifest.complete
    assert [made.file(table).rows for table in LANGCHAIN] == [4, 58]
    assert len(made.path("langchain_pg_embedding").read_text().splitlines()) == 1 + 58


def test_truncating_empties_the_table_and_keeps_its_rows_in_the_backup(
    langchain: Database, backup: BackupMaker
) -> None:
    made = backup(langchain.url, truncate_vector_tables=True)

    assert made.error is None
    assert made.manifest.truncate == "done"
    assert made.file("langchain_pg_embedding").rows == 58
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 0
