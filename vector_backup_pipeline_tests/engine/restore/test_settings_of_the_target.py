"""Settings of a role, a database or a server do not change a restore."""

import time

import pytest

from vector_backup_pipeline_tests.faults.watching import count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, new_database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker

_BACKSLASHES = r"""
    CREATE TABLE odd (id int PRIMARY KEY, a text DEFAULT 'x\y' CHECK (a <> 'q\'), b text[]);
    CREATE INDEX underscored ON odd (a) WHERE a LIKE 'a\_b';
    INSERT INTO odd VALUES (1, DEFAULT, '{NULL,x}'), (2, 'a_b', '{}');
"""


_SETTINGS = (
    "default_transaction_isolation = 'serializable'",
    "standard_conforming_strings = off",
    "array_nulls = off",
    "datestyle = 'SQL, DMY'",
    # Last: no other can be set after it.
    "default_transaction_read_only = on",
)


def test_settings_of_the_database_change_nothing(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(_BACKSLASHES)
    made = backup(langchain.url, tables=("langchain_pg_collection", "odd"))
    assert made.error is None
    with new_database(langchain.server, "other_settings") as other:
        for setting in _SETTINGS:
            other.run(f"ALTER DATABASE other_settings SET {setting}")

        done = restore(other.url, timestamp=made.stamp)

        assert done.error is None, done.message
        again = backup(other.url, tables=("langchain_pg_collection", "odd"))
        was, now = (finished.manifest.tables[1] for finished in (made, again))
        assert now.definition is not None and was.definition is not None
        assert now.definition == was.definition
        assert now.file is not None and was.file is not None
        assert now.file.digest == was.file.digest


@pytest.mark.parametrize(
    "setting", [("standard_conforming_strings", "off"), ("client_encoding", "SJIS")]
)
def test_a_check_that_changes_a_setting_does_not_change_how_statements_are_read(
    database: Database, backup: BackupMaker, restore: RestoreMaker, setting: tuple[str, str]
) -> None:
    """Otherwise a part of a string in a row could run as a statement."""
    database.run(
        r"CREATE TABLE odd (id int, a text, CHECK (set_config(%s, %s, true) <> ''));"
        r"INSERT INTO odd VALUES (1, 'x'); CREATE INDEX parts ON odd (a) WHERE a <> 'あ\d';"
        r"COMMENT ON TABLE odd IS 'あ'",
        setting,
    )
    made = backup(database.url, tables=("odd",))
    database.run("DROP TABLE odd")

    restore.succeeds(database, timestamp=made.stamp)

    again = backup(database.url, tables=("odd",))
    was, now = (finished.manifest.definitions[0] for finished in (made, again))
    assert now == was


@pytest.mark.usefixtures("in_staging")
def test_idle_workers_are_not_ended_by_a_time_out_for_idle_sessions(
    corpus: Database, restore: RestoreMaker
) -> None:
    corpus.run("DROP TABLE langchain_pg_embedding, langchain_pg_collection")
    corpus.run(f"ALTER DATABASE {corpus.name} SET idle_session_timeout = '200ms'")
    for step in ("load", "build", "prove"):
        restore.between[step] = lambda: time.sleep(0.5)

    restore.succeeds(corpus)

    assert count(corpus) == 58
