"""Which rows an incremental backup exports, and what its key file says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
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

_STATEMENTS = (
    "UPDATE docs SET body = 'new' WHERE id = 1",
    "VACUUM FREEZE docs",
    "UPDATE docs SET body = body WHERE id = 2",
    "UPDATE docs SET id = 103 WHERE id = 3",
    "INSERT INTO docs VALUES (104, 'new', '[0,0]')",
    "DELETE FROM docs WHERE id IN (5, 6)",
    "INSERT INTO docs VALUES (6, 'again')",
    "BEGIN; SAVEPOINT s; UPDATE docs SET body = '' WHERE id = 7; RELEASE s; COMMIT",
    "BEGIN; SAVEPOINT s; DELETE FROM docs; ROLLBACK TO s",
    "INSERT INTO docs VALUES (108); COMMIT",
    "BEGIN; UPDATE docs SET body = ''; ROLLBACK",
    "BEGIN; UPDATE docs SET body = '' WHERE id = 9; PREPARE TRANSACTION 'p'",
)


def test_changed_rows_are_exported(any_database: Database, backup: BackupMaker) -> None:
    cases: list[tuple[Sequence[str], set[int], int]] = [
        ([], set(), 0),
        (["VACUUM FREEZE docs"], set(), 0),
        (_STATEMENTS, {1, 2, 103, 104, 6, 7, 108}, 2),
        (["ROLLBACK PREPARED 'p'", "DELETE FROM docs"], set(), ROWS + 1),
    ]
    chain = new_chain(any_database, backup)
    stamps = [chain.make().stamp]
    for statements, changed, removed in cases:
        with any_database.session() as session, session.cursor() as cursor:
            session.autocommit = True
            for statement in statements:
                cursor.execute(statement)

        made = chain.make()

        entry = made.result.tables_backed_up["docs"].model_dump()
        expected = ("incremental", stamps[-1], None)
        assert (entry["mode"], entry["builds_on"], entry["reason"]) == expected
        assert (entry["rows_exported"], entry["rows_removed"]) == (len(changed), removed)
        assert exported(made) == changed
        assert {int(key) for key, stamp in keys(made).items() if stamp == made.stamp} == changed
        assert set(keys(made).values()) <= {*stamps, made.stamp}
        stamps.append(made.stamp)
        (table,) = made.manifest.tables
        assert entry["row_count"] == table.rows
        chain.check_content(table)


_LOOKS_LIKE_A_MARK = "x\nt,y"


@contextmanager
def _without_duckdb() -> Iterator[None]:
    """In the block, opening DuckDB fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duckdb, "connect", lambda *_, **__: pytest.fail("DuckDB was opened"))
        yield


def test_a_table_without_changes_takes_the_key_file_of_its_base(chain: Chain) -> None:
    chain.make()
    changes: list[tuple[str, tuple[int, int]]] = [
        ("DELETE FROM docs WHERE id = 3", (0, 1)),
        ("DELETE FROM docs WHERE id = 4; INSERT INTO docs VALUES (30)", (1, 1)),
        ("UPDATE docs SET body = 'new' WHERE id = 5", (1, 0)),
        ("DELETE FROM docs WHERE id = 6; INSERT INTO docs VALUES (6)", (1, 0)),
        ("INSERT INTO docs VALUES (31)", (1, 0)),
    ]
    for change, counts in changes:
        chain.database.run(change)
        chain.database.run("VACUUM docs")
        changed = chain.make()
        with _without_duckdb():
            made = chain.make()

        for backup, expected in ((changed, counts), (made, (0, 0))):
            entry = backup.result.tables_backed_up["docs"].model_dump()
            assert (entry["rows_exported"], entry["rows_removed"]) == expected
        assert made.manifest.builds_on == changed.stamp
        assert keys(made) == keys(changed)
        chain.check_content(made.manifest.tables[0])


def test_a_base_whose_keys_have_no_hash_is_compared_by_its_key_file(
    database: Database, backup: BackupMaker
) -> None:
    """The set is of an earlier version. A line of a key may look like a changed row."""
    database.run("CREATE TABLE docs (id text PRIMARY KEY); INSERT INTO docs VALUES ('a'), ('b')")
    chain = Chain(database, backup)
    base = chain.make()
    (table,) = base.manifest.tables
    assert table.keys is not None and table.keys.scanned_sha256 is not None
    earlier = table.keys.model_copy(update={"scanned_sha256": None})
    chain.rewrite(base, tables=[table.model_copy(update={"keys": earlier})])
    assert chain.table().builds_on
    database.run("INSERT INTO docs VALUES (%s)", ['x\n"(0,1)",y'])
    for statement in ("SELECT", "SELECT", "UPDATE docs SET id = 'c' WHERE id = 'b'", "SELECT"):
        database.run(statement)
        table = chain.table()
        assert table.builds_on and table.keys and table.keys.scanned_sha256
        chain.check_content(table)


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

    # The third was in the base too, but its transaction is later than one that was open then.
    assert exported(made) == {1, 2, 3, 4}
    chain.check_content(made.manifest.tables[0])


def test_rows_that_copy_has_frozen_are_in_the_base(chain: Chain) -> None:
    chain.database.psql(
        "BEGIN; TRUNCATE docs; COPY docs FROM STDIN (FREEZE);\n7\tx\t[1,2]\n\\.\nCOMMIT"
    )
    chain.make()
    assert exported(chain.make()) == set()


def test_every_form_of_files_can_be_built_on(chain: Chain) -> None:
    forms: list[dict[str, Any]] = [
        {"compression": "gzip"},
        {"export_method": "cursor", "batch_size": 3},
        {"workers": 1},
        {"format": "binary", "compression": "zstd"},
    ]
    for chain.parameters in forms:
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


def test_keys_are_read_as_they_are(database: Database, backup: BackupMaker) -> None:
    """Without its byte order mark, a key would be that of the row which is deleted."""
    database.run('CREATE TABLE docs (digest text, "Key,\n2" text, PRIMARY KEY (digest, "Key,\n2"))')
    values = [
        "",
        " ",
        "a,b",
        'say "no"',
        "line\nfeed",
        "\r",
        "\\N",
        "NULL",
        "ü\u2028",
        "a",
        "\ufeffa",
    ]
    for value in values:
        database.run("INSERT INTO docs VALUES (%s, %s)", [value, value])
    chain = Chain(database, backup)
    chain.make()
    database.run("DELETE FROM docs WHERE digest = 'a'")
    database.run("UPDATE docs SET digest = digest WHERE digest IN ('a,b', '', E'line\\nfeed')")

    table = chain.table()

    assert table.builds_on and table.file is not None and table.file.rows == 3
    chain.check_content(table)
