"""Which rows an incremental backup exports, and what its key file says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from vector_backup_pipeline.engine.postgres import ranges
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_incremental import (
    ROWS,
    Chain,
    exported,
    keys,
    new_chain,
)
from vector_backup_pipeline_tests.fix_postgres import Database

_INSERT = "INSERT INTO docs VALUES (100, 'new', '[0,0]')"


@pytest.mark.parametrize(
    ("statements", "changed", "removed"),
    [
        (["SELECT"], set(), 0),
        (["UPDATE docs SET body = 'new' WHERE id = 3"], {3}, 0),
        (["UPDATE docs SET body = body WHERE id = 3"], {3}, 0),
        (["UPDATE docs SET id = 100 WHERE id = 3"], {100}, 1),
        ([_INSERT], {100}, 0),
        (["DELETE FROM docs WHERE id <= 3"], set(), 3),
        (["DELETE FROM docs"], set(), ROWS),
        (["DELETE FROM docs WHERE id = 3", "INSERT INTO docs VALUES (3, 'again')"], {3}, 0),
        (["BEGIN; SAVEPOINT s; UPDATE docs SET body = '' WHERE id = 3; RELEASE s; COMMIT"], {3}, 0),
        (
            ["BEGIN; SAVEPOINT s; DELETE FROM docs; ROLLBACK TO s", f"{_INSERT}; COMMIT"],
            {100},
            0,
        ),
        (["BEGIN; UPDATE docs SET body = ''; ROLLBACK"], set(), 0),
        (["VACUUM FREEZE docs"], set(), 0),
        (["UPDATE docs SET body = 'new' WHERE id = 3", "VACUUM FREEZE docs"], {3}, 0),
        (["BEGIN; UPDATE docs SET body = '' WHERE id = 3; PREPARE TRANSACTION 'p'"], set(), 0),
    ],
    ids=str,
)
def test_changed_rows_are_exported(
    any_database: Database,
    backup: BackupMaker,
    statements: Sequence[str],
    changed: set[int],
    removed: int,
) -> None:
    chain = new_chain(any_database, backup)
    base = chain.make()
    with any_database.session() as session, session.cursor() as cursor:
        session.autocommit = True
        for statement in statements:
            cursor.execute(statement)

    made = chain.make()

    entry = made.result.tables_backed_up["docs"].model_dump()
    assert (entry["mode"], entry["builds_on"], entry["reason"]) == ("incremental", base.stamp, None)
    assert (entry["rows_exported"], entry["rows_removed"]) == (len(changed), removed)
    assert exported(made) == changed
    assert {int(key) for key, stamp in keys(made).items() if stamp == made.stamp} == changed
    assert set(keys(made).values()) <= {base.stamp, made.stamp}
    (table,) = made.manifest.tables
    assert entry["row_count"] == table.rows
    chain.check_content(table)
    if "PREPARE" in statements[0]:
        any_database.run("ROLLBACK PREPARED 'p'")


def test_rows_of_transactions_that_were_open_during_the_base_are_exported(chain: Chain) -> None:
    database = chain.database
    with database.session() as open_one, open_one.cursor() as cursor:
        cursor.execute("UPDATE docs SET body = 'plain' WHERE id = 1; SAVEPOINT s")
        cursor.execute("UPDATE docs SET body = 'sub' WHERE id = 2; RELEASE s")
        database.run("UPDATE docs SET body = 'later, but ended before' WHERE id = 3")
        database.run(
            "BEGIN; UPDATE docs SET body = 'prepared' WHERE id = 4; PREPARE TRANSACTION 'open'"
        )
        chain.make()
        open_one.commit()
    database.run("COMMIT PREPARED 'open'")

    made = chain.make()

    # The third is not new, but it can't be told apart from the others.
    assert exported(made) == {1, 2, 3, 4}
    chain.check_content(made.manifest.tables[0])


def test_rows_that_copy_has_frozen_are_in_the_base(chain: Chain) -> None:
    chain.database.psql(
        "BEGIN; TRUNCATE docs; COPY docs FROM STDIN (FREEZE);\n7\tx\t[1,2]\n\\.\nCOMMIT"
    )
    chain.make()
    assert exported(chain.make()) == set()


def test_a_chain_carries_the_rows_of_all_its_sets(chain: Chain) -> None:
    first = chain.make()
    chain.database.run("UPDATE docs SET body = 'second' WHERE id IN (1, 2)")
    second = chain.make()
    chain.database.run("UPDATE docs SET body = 'third' WHERE id IN (2, 3)")
    third = chain.make()

    assert third.manifest.builds_on == second.stamp
    stamps = keys(third)
    assert [stamps[key] for key in "1234"] == [second.stamp, third.stamp, third.stamp, first.stamp]
    chain.check_content(third.manifest.tables[0])


@pytest.mark.parametrize(
    "parameters",
    [
        {"format": "binary", "compression": "zstd"},
        {"compression": "gzip"},
        {"export_method": "cursor", "batch_size": 3},
        {"workers": 1},
    ],
    ids=str,
)
def test_every_form_of_files_can_be_built_on(chain: Chain, parameters: dict[str, Any]) -> None:
    chain.parameters = parameters
    chain.make()
    chain.database.run("UPDATE docs SET body = repeat('x', 9) WHERE id % 5 = 0")

    table = chain.table()

    assert table.file is not None
    assert (table.file.rows, table.rows) == (ROWS // 5, ROWS)
    chain.check_content(table)


def test_keys_and_rows_of_many_ranges_are_paired(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 8192)
    monkeypatch.setattr(ranges, "_SCAN_BYTES", 8192)
    chain.database.run(
        """
        TRUNCATE docs;
        INSERT INTO docs SELECT i, repeat('x', 500) FROM generate_series(400, 1, -1) i;
        """
    )
    chain.database.run("VACUUM docs")
    chain.make()
    chain.database.run("UPDATE docs SET body = 'new' WHERE id % 50 = 0")
    made = chain.make()
    assert exported(made) == set(range(50, 401, 50))
    # A wrong pair of key and digest would be carried over, or left out, in the wrong place.
    chain.database.run("DELETE FROM docs WHERE id % 3 = 0")

    table = chain.table()

    assert table.builds_on == made.stamp
    chain.check_content(table)


def test_keys_and_rows_are_paired_where_the_server_prefers_indexes(chain: Chain) -> None:
    """The index has the keys in another order than the table."""
    chain.database.run("DELETE FROM docs; INSERT INTO docs SELECT generate_series(20, 1, -1)")
    chain.database.run("VACUUM docs")
    chain.database.run(f"ALTER DATABASE {chain.database.name} SET enable_seqscan = off")
    base = chain.make()
    chain.database.run("DELETE FROM docs WHERE id <= 5")

    table = chain.table()

    assert table.builds_on == base.stamp
    chain.check_content(table)


def test_rows_may_move_between_partitions(database: Database, backup: BackupMaker) -> None:
    database.run(
        """
        CREATE TABLE docs (id int, day int, body text, PRIMARY KEY (id, day))
            PARTITION BY RANGE (day);
        CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (1) TO (2);
        CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (2) TO (3);
        INSERT INTO docs SELECT i, 1 + i % 2, 'text' FROM generate_series(1, 20) i;
        """
    )
    chain = Chain(database, backup)
    chain.make()
    database.run("UPDATE docs SET day = 3 - day WHERE id <= 3")

    made = chain.make()

    entry = made.result.tables_backed_up["docs"].model_dump()
    assert (entry["rows_exported"], entry["rows_removed"]) == (3, 3)
    chain.check_content(made.manifest.tables[0])


def test_keys_are_read_as_they_are(database: Database, backup: BackupMaker) -> None:
    database.run('CREATE TABLE docs (digest text, "Key,\n2" text, PRIMARY KEY (digest, "Key,\n2"))')
    values = ["", " ", "a,b", 'say "no"', "line\nfeed", "\r", "\\N", "NULL", "ü\u2028"]
    for value in values:
        database.run("INSERT INTO docs VALUES (%s, %s)", [value, value])
    chain = Chain(database, backup)
    chain.make()
    database.run("UPDATE docs SET digest = digest WHERE digest IN ('a,b', '', E'line\\nfeed')")

    table = chain.table()

    assert table.file is not None and table.file.rows == 3
    chain.check_content(table)
