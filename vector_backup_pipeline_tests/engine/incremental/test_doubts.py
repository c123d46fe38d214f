"""When an incremental backup is full, and what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.backup import run
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_incremental import Chain
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import SetWriter

NO_BASE = "There is no complete, undamaged set of this database with key files."
_REWRITTEN = "was truncated or rewritten"
_COLUMN = "a column was added, dropped or altered"
_SHAPE = "other columns or types"
_TABLE = """
    CREATE TYPE {0}_mood AS ENUM ('sad', 'glad');
    CREATE TYPE {0}_pair AS (a int, b int);
    CREATE TABLE {0} (id int PRIMARY KEY, body text, state {0}_mood DEFAULT 'glad',
        pairs {0}_pair[] DEFAULT ARRAY[(1, 2)::{0}_pair]);
    INSERT INTO {0} SELECT i, 'text ' || i FROM generate_series(1, 20) i;
"""
_PARTITIONED = """
    CREATE TABLE {0} (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE {0}_1 PARTITION OF {0} FOR VALUES FROM (1) TO (9);
"""
_NAMES = """
    CREATE DOMAIN kind AS regclass;
    CREATE TABLE {0} (id int PRIMARY KEY, kinds kind[] DEFAULT '{{pg_class}}');
    INSERT INTO {0} VALUES (1);
"""
_NAME_RANGES = """
    CREATE TYPE {0}_range AS RANGE (subtype = regclass, multirange_type_name = {0}_multirange);
    CREATE TABLE {0} (id int PRIMARY KEY, names {0}_range);
"""
_CHANGES = [
    (_TABLE, "TRUNCATE {0}", _REWRITTEN),
    (_TABLE, "VACUUM FULL {0}", _REWRITTEN),
    (_TABLE, "CLUSTER {0} USING {0}_pkey", _REWRITTEN),
    (_TABLE, "ALTER TABLE {0} ALTER id TYPE bigint", _REWRITTEN),
    (_TABLE, "ALTER TABLE {0} ADD extra int DEFAULT 7", _SHAPE),
    (_TABLE, "ALTER TABLE {0} DROP body", _SHAPE),
    (_TABLE, "ALTER TABLE {0} ALTER body TYPE varchar", _SHAPE),
    (_TABLE, "ALTER TABLE {0} DROP pairs, ADD pairs {0}_pair[] DEFAULT '{{}}'", _COLUMN),
    (_TABLE, "ALTER TYPE {0}_mood RENAME VALUE 'sad' TO 'blue'", _SHAPE),
    (_TABLE, "ALTER TYPE {0}_pair DROP ATTRIBUTE b, ADD ATTRIBUTE b int", _COLUMN),
    (_TABLE, "DROP TABLE {0}; CREATE TABLE {0} (id int PRIMARY KEY)", "was dropped and created"),
    (_TABLE, "UPDATE {0} SET body = '' WHERE id <= 11", "11 of 20 rows have changed."),
    (_NAMES, "ALTER TABLE {0} RENAME CONSTRAINT {0}_pkey TO renamed", "regclass"),
    (_NAME_RANGES, "SELECT", "regclass"),
    (_NAME_RANGES.replace("names {0}_range", "names {0}_multirange"), "SELECT", "regclass"),
    (_PARTITIONED, "CREATE TABLE {0}_2 PARTITION OF {0} DEFAULT", "its partitions changed"),
    ("", _TABLE, "has no key file of a table of this name."),
]


def _is_full(made: FinishedBackup, reason: str, name: str = "docs") -> None:
    assert made.error is None
    entry = made.result.tables_backed_up[name].model_dump()
    assert (entry["mode"], entry["builds_on"], entry["rows_removed"]) == ("full", None, None)
    assert entry["rows_exported"] == entry["row_count"]
    assert reason in entry["reason"]
    (table,) = [table for table in made.manifest.tables if table.name == name]
    assert (table.full_reason, table.builds_on) == (entry["reason"], None)
    assert made.manifest.builds_on in {table.builds_on for table in made.manifest.tables}


def test_a_changed_table_is_full(database: Database, backup: BackupMaker) -> None:
    names = ["same", *(f"docs_{number}" for number in range(len(_CHANGES)))]
    for name, creation in zip(names, [_TABLE, *(first for first, _, _ in _CHANGES)], strict=True):
        database.run(creation.format(name) or "SELECT")
    chain = Chain(database, backup)
    base = chain.make(tables=names[:-1])
    for name, (_, change, _) in zip(names[1:], _CHANGES, strict=True):
        database.run(change.format(name))

    made = chain.make(tables=names)

    for name, (_, _, reason) in zip(names[1:], _CHANGES, strict=True):
        _is_full(made, reason, name)
    assert made.manifest.builds_on == made.manifest.tables[0].builds_on == base.stamp
    following = chain.make(tables=names).manifest.tables
    full = chain.make(tables=names, mode="full").manifest.tables
    for ours, theirs, (_, _, reason) in zip(following[1:], full[1:], _CHANGES, strict=True):
        assert (ours.builds_on == made.stamp) == (reason != "regclass"), ours.full_reason
        assert (ours.rows, ours.digest) == (theirs.rows, theirs.digest)


def test_a_base_in_doubt_is_not_built_on(chain: Chain, tmp_path: Path) -> None:
    base = chain.make()
    directory, manifest = base.directory, base.manifest
    whole = shutil.copytree(directory, tmp_path / "whole")
    (keys,) = directory.glob("*.keys.parquet")
    xmin = int(manifest.snapshot.partition(":")[0]) + 1_000_000
    old = manifest.created_at - timedelta(days=8)

    def rewrite(**fields: Any) -> Callable[[], object]:
        return lambda: chain.rewrite(base, **fields)

    def server(**fields: Any) -> Callable[[], object]:
        return rewrite(server=manifest.server.model_copy(update=fields))

    def hide_a_row() -> None:
        """A row was written that the base's snapshot claims to have seen."""
        chain.database.run("INSERT INTO docs VALUES (100)")
        chain.rewrite(base, snapshot=chain.database.ask_one("SELECT pg_current_snapshot()::text"))

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: keys.write_bytes(bytes(keys.stat().st_size)), "is damaged"),
        (base.path("docs").unlink, NO_BASE),
        (lambda: SetWriter(directory).verdict(manifest.timestamp, files_passed=False), NO_BASE),
        (rewrite(can_be_base=False), NO_BASE),
        (server(system_identifier="1"), NO_BASE),
        (server(database="other"), NO_BASE),
        (server(timeline=7), "its timeline has changed"),
        (server(database_oid=7), "The database was dropped"),
        (server(started_at=None), "The server was restarted"),
        (rewrite(snapshot=f"{xmin}:{xmin}:"), "has a later transaction ID"),
        (rewrite(created_at=old), "is older than 7d"),
        (hide_a_row, "1 rows are neither in the set"),
    ]
    for damage, reason in cases:
        damage()
        _is_full(chain.make(), reason)
        shutil.rmtree(directory)
        shutil.copytree(whole, directory)
    # Mode incremental does not ask how old the full set is.
    chain.rewrite(base, created_at=old)
    assert chain.make(mode="incremental").manifest.builds_on == base.stamp


def test_a_set_of_another_format_is_not_built_on_nor_any_if_a_full_one_is_asked_for(
    chain: Chain,
) -> None:
    chain.make()
    _is_full(chain.make(format="binary"), "in another format")
    _is_full(chain.make(full_every="0d"), "full_every is 0d, which requires a full set each time.")


def test_a_run_of_one_table_leaves_the_chains_of_others(chain: Chain) -> None:
    chain.database.run("CREATE TABLE other (id int PRIMARY KEY)")
    base = chain.make(tables=("docs", "other"))
    newer = chain.make()

    made = chain.make(tables=("docs", "other"))

    assert [table.builds_on for table in made.manifest.tables] == [base.stamp] * 2
    assert newer.manifest.builds_on == base.stamp


def test_a_damaged_set_is_passed_over_and_a_chain_that_is_broken(chain: Chain) -> None:
    base, damaged = chain.make(), chain.make()
    damaged.path("docs").unlink()
    chain.database.run("DELETE FROM docs WHERE id = 3")

    made = chain.make()

    assert made.manifest.builds_on == base.stamp
    chain.check_content(made.manifest.tables[0])
    base.path("docs").unlink()
    _is_full(chain.make(), NO_BASE)


def test_a_set_of_mode_full_is_no_base_and_mode_incremental_fails_without_one(
    chain: Chain,
) -> None:
    full = chain.make(mode="full")
    failed = chain.make(mode="incremental")

    entry = full.result.tables_backed_up["docs"].model_dump()
    assert set(entry) == {"success", "row_count", "file_size", "backup_file", "duration"}
    assert (full.manifest.can_be_base, full.manifest.tables[0].keys) == (False, None)
    assert isinstance(failed.error, InvalidParams)
    assert failed.error.message == f"docs needs a full backup: {NO_BASE} Use mode auto."
    assert failed.names == full.names
    _is_full(chain.make(), NO_BASE)


def test_a_table_without_a_primary_key_is_full(chain: Chain) -> None:
    chain.database.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    for mode in ("auto", "incremental"):
        made = chain.make(mode=mode)

        _is_full(made, "The table has no primary key.")
        assert (made.manifest.tables[0].keys, made.manifest.can_be_base) == (None, False)


def test_a_run_that_truncates_is_full(chain: Chain) -> None:
    chain.make()
    options = {"truncate_tables": ("docs",), "truncate_vector_tables": True}
    made = chain.make(mode="incremental", **options)

    assert made.result.truncate_performed
    _is_full(made, "The run truncates tables.")
    assert made.manifest.tables[0].keys is not None


def test_a_table_that_is_read_through_its_parent_is_full(
    database: Database, backup: BackupMaker
) -> None:
    database.run(_PARTITIONED.format("docs"))
    url = database.create_role(f"reader_{database.name}")
    database.run(f"GRANT SELECT ON docs TO reader_{database.name}")
    parameters: dict[str, Any] = {"tables": ("docs",), "truncate_tables": ()}

    made = backup(url, mode="auto", **parameters)

    _is_full(made, "Its blocks cannot be read in ranges")
    assert made.manifest.tables[0].keys is None
    assert isinstance(backup(url, mode="incremental", **parameters).error, InvalidParams)


def test_a_set_whose_commits_may_be_lost_is_no_base(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash would lose them, and use their transaction IDs again. A backup flushes them."""
    chain.database.run("SET synchronous_commit = off; UPDATE docs SET body = '' WHERE id = 3")
    assert chain.make().manifest.can_be_base
    monkeypatch.setattr(run, "wal_position", lambda _: "FFFFFFFF/0")
    assert not chain.make().manifest.can_be_base
