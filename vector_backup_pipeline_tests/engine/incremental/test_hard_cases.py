"""Cases in which a careless incremental backup would lose a change."""

from __future__ import annotations

from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_incremental import Chain
from vector_backup_pipeline_tests.fix_postgres import Database

BYTE_ORDER_MARK = "\ufeff"


def test_a_key_that_begins_with_a_byte_order_mark_is_a_key_of_its_own(
    database: Database, backup: BackupMaker
) -> None:
    """Without the mark, the key would be that of the row which is deleted."""
    database.run("CREATE TABLE docs (id text PRIMARY KEY, body text)")
    database.run(
        "INSERT INTO docs VALUES ('a', 'deleted'), (%s, 'marked'), ('b', '')",
        [f"{BYTE_ORDER_MARK}a"],
    )
    chain = Chain(database, backup)
    chain.make()
    database.run("DELETE FROM docs WHERE id = 'a'")

    table = chain.table()

    assert table.builds_on is not None
    chain.check_content(table)
