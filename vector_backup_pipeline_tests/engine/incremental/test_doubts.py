"""When an incremental backup is full, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from vector_backup_pipeline.engine.backup import run
from vector_backup_pipeline.engine.catalog.stored_sets import write_verdict
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_incremental import ROWS, Chain
from vector_backup_pipeline_tests.fix_postgres import Database

NO_BASE = "There is no set of this database that a backup can build on."
_REWRITTEN = "was truncated or rewritten"
_COLUMN = "a column was added, dropped or altered"
_SHAPE = "other columns or types"


def _is_full(made: FinishedBackup, reason: str) -> None:
    assert made.error is None
    entry = made.result.tables_backed_up["docs"].model_dump()
    assert (entry["mode"], entry["builds_on"], entry["rows_removed"]) == ("full", None, None)
    assert entry["rows_exported"] == entry["row_count"]
    assert reason in entry["reason"]
    (table,) = made.manifest.tables
    assert (table.full_reason, table.builds_on) == (entry["reason"], None)
    assert made.manifest.builds_on is None


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ("TRUNCATE docs", _REWRITTEN),
        ("VACUUM FULL docs", _REWRITTEN),
        ("CLUSTER docs USING docs_pkey", _REWRITTEN),
        ("ALTER TABLE docs ALTER id TYPE bigint", _REWRITTEN),
        ("ALTER TABLE docs ADD extra int DEFAULT 7", _SHAPE),
        ("ALTER TABLE docs DROP body", _SHAPE),
        ("ALTER TABLE docs ALTER body TYPE varchar", _SHAPE),
        ("ALTER TABLE docs DROP state, ADD state mood DEFAULT 'sad'", _COLUMN),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", _SHAPE),
        ("DROP TABLE docs; CREATE TABLE docs (id int PRIMARY KEY)", "was dropped and created"),
        ("UPDATE docs SET body = '' WHERE id <= 11", f"11 of {ROWS} rows have changed."),
    ],
)
def test_a_changed_table_is_full(chain: Chain, statements: str, reason: str) -> None:
    chain.database.run("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    chain.database.run("ALTER TABLE docs ADD state mood DEFAULT 'glad'")
    chain.make()
    chain.database.run(statements)

    made = chain.make()

    _is_full(made, reason)
    chain.check_content(made.manifest.tables[0])
    assert made.manifest.can_be_base
    assert chain.make().manifest.builds_on == made.stamp


def test_a_changed_composite_type_is_a_doubt(chain: Chain) -> None:
    chain.database.run("CREATE TYPE pair AS (a int, b int)")
    chain.database.run("ALTER TABLE docs ADD pairs pair[] DEFAULT ARRAY[(1, 2)::pair]")
    chain.make()
    assert chain.make().manifest.builds_on
    chain.database.run("ALTER TYPE pair DROP ATTRIBUTE b; ALTER TYPE pair ADD ATTRIBUTE b int")
    _is_full(chain.make(), _COLUMN)


def test_values_that_change_with_names_are_a_doubt(chain: Chain) -> None:
    chain.database.run("CREATE DOMAIN kind AS regclass")
    chain.database.run("ALTER TABLE docs ADD kinds kind[] DEFAULT '{docs}'")
    chain.make()
    chain.database.run("ALTER TABLE docs RENAME CONSTRAINT docs_pkey TO renamed")
    _is_full(chain.make(), "regclass")


def _damage_key_file(chain: Chain, base: FinishedBackup) -> None:
    keys = base.manifest.tables[0].keys
    assert keys is not None
    path = base.directory / keys.name
    path.write_bytes(bytes(path.stat().st_size))


def _lose_data_file(chain: Chain, base: FinishedBackup) -> None:
    base.path("docs").unlink()


def _fail_verification(chain: Chain, base: FinishedBackup) -> None:
    now = base.manifest.created_at
    verdict = SetVerdict(
        backup_path="",
        timestamp=base.stamp or "",
        backup_date=now,
        complete=True,
        files_passed=False,
        passed=False,
        verified_at=now,
        tool_version="",
        tables={},
        drill=None,
        errors=[],
    )
    write_verdict(BackupDirectory(LocalStore(base.directory)), verdict)


def _server(**fields: Any) -> Callable[[Chain, FinishedBackup], None]:
    def change(chain: Chain, base: FinishedBackup) -> None:
        chain.rewrite(base, server=base.manifest.server.model_copy(update=fields))

    return change


def _snapshot(xmin_ahead: int) -> Callable[[Chain, FinishedBackup], None]:
    def change(chain: Chain, base: FinishedBackup) -> None:
        xmin = int(base.manifest.snapshot.partition(":")[0]) + xmin_ahead
        chain.rewrite(base, snapshot=f"{xmin}:{xmin}:")

    return change


def _make_old(chain: Chain, base: FinishedBackup) -> None:
    chain.rewrite(base, created_at=base.manifest.created_at - timedelta(days=8))


def _no_base(chain: Chain, base: FinishedBackup) -> None:
    chain.rewrite(base, can_be_base=False)


def _hide_a_row(chain: Chain, base: FinishedBackup) -> None:
    """A row was written that the base's snapshot claims to have seen."""
    chain.database.run("INSERT INTO docs VALUES (100)")
    chain.rewrite(base, snapshot=chain.database.ask_one("SELECT pg_current_snapshot()::text"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_damage_key_file, "is not what was written"),
        (_lose_data_file, NO_BASE),
        (_fail_verification, NO_BASE),
        (_no_base, NO_BASE),
        (_server(system_identifier="1"), NO_BASE),
        (_server(database="other"), NO_BASE),
        (_server(timeline=7), "its timeline is another"),
        (_server(database_oid=7), "The database was dropped"),
        (_snapshot(1_000_000), "is of a later transaction"),
        (_snapshot(-(1 << 31)), "transactions old"),
        (_hide_a_row, "1 rows are neither in the set"),
        (_make_old, "is older than 7d"),
    ],
)
def test_a_base_in_doubt_is_not_built_on(
    chain: Chain, damage: Callable[[Chain, FinishedBackup], None], reason: str
) -> None:
    base = chain.make()
    damage(chain, base)

    made = chain.make()

    _is_full(made, reason)
    chain.check_content(made.manifest.tables[0])


def test_mode_incremental_does_not_ask_how_old_the_full_set_is(chain: Chain) -> None:
    base = chain.make()
    _make_old(chain, base)
    assert chain.make(mode="incremental").manifest.builds_on == base.stamp


def test_a_full_set_can_be_asked_for_each_time(chain: Chain) -> None:
    chain.make()
    _is_full(chain.make(full_every="0d"), "full_every is 0d, which asks for a full set each time.")


def test_a_set_of_another_format_is_not_built_on(chain: Chain) -> None:
    chain.make()
    _is_full(chain.make(format="binary"), "in another format")


def test_a_broken_chain_is_not_built_on(chain: Chain) -> None:
    base = chain.make()
    chain.make()
    base.path("docs").unlink()
    _is_full(chain.make(), NO_BASE)


def test_a_damaged_set_is_passed_over(chain: Chain) -> None:
    base = chain.make()
    damaged = chain.make()
    damaged.path("docs").unlink()
    chain.database.run("DELETE FROM docs WHERE id = 3")

    made = chain.make()

    assert made.manifest.builds_on == base.stamp
    chain.check_content(made.manifest.tables[0])


def test_a_set_of_mode_full_is_no_base(chain: Chain) -> None:
    full = chain.make(mode="full")

    entry = full.result.tables_backed_up["docs"].model_dump()
    assert set(entry) == {"success", "row_count", "file_size", "backup_file", "duration"}
    assert (full.manifest.can_be_base, full.manifest.tables[0].keys) == (False, None)
    _is_full(chain.make(), NO_BASE)


def test_mode_incremental_fails_with_the_doubt(chain: Chain) -> None:
    made = chain.make(mode="incremental")

    assert isinstance(made.error, InvalidParams)
    assert made.error.message == f"docs needs a full backup: {NO_BASE} Use mode auto."
    assert made.names == ["vector_backup_log.txt"]


@pytest.mark.parametrize("mode", ["auto", "incremental"])
def test_a_table_without_a_primary_key_is_full(chain: Chain, mode: str) -> None:
    chain.database.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
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


def test_a_table_that_is_new_to_the_set_is_full(chain: Chain) -> None:
    base = chain.make()
    chain.database.run("CREATE TABLE other (id int PRIMARY KEY)")

    made = chain.make(tables=("docs", "other"))

    docs, other = made.manifest.tables
    assert (docs.builds_on, other.builds_on) == (base.stamp, None)
    assert other.full_reason == f"The set {base.stamp} has no key file of a table of this name."
    assert made.manifest.builds_on == base.stamp


def test_a_run_of_one_table_leaves_the_chains_of_others(chain: Chain) -> None:
    chain.database.run("CREATE TABLE other (id int PRIMARY KEY)")
    base = chain.make(tables=("docs", "other"))
    newer = chain.make()

    made = chain.make(tables=("docs", "other"))

    assert [table.builds_on for table in made.manifest.tables] == [base.stamp] * 2
    assert newer.manifest.builds_on == base.stamp


def test_a_partitioned_table_with_a_new_partition_is_full(
    database: Database, backup: BackupMaker
) -> None:
    database.run(
        """
        CREATE TABLE docs (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (1) TO (9);
        """
    )
    chain = Chain(database, backup)
    chain.make()
    database.run("CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (9) TO (19)")
    _is_full(chain.make(), "its partitions changed")


def test_a_table_that_is_read_through_its_parent_is_full(
    database: Database, backup: BackupMaker
) -> None:
    database.run(
        """
        CREATE TABLE docs (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (1) TO (9);
        """
    )
    url = database.create_role(f"reader_{database.name}")
    database.run(f"GRANT SELECT ON docs TO reader_{database.name}")
    parameters: dict[str, Any] = {"tables": ("docs",), "truncate_tables": ()}

    made = backup(url, mode="auto", **parameters)

    _is_full(made, "Its blocks cannot be read in ranges")
    assert made.manifest.tables[0].keys is None
    assert isinstance(backup(url, mode="incremental", **parameters).error, InvalidParams)


@pytest.mark.parametrize(("position", "can_be_base"), [(None, True), ("FFFFFFFF/0", False)])
def test_a_set_whose_commits_may_be_lost_is_no_base(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, position: str | None, can_be_base: bool
) -> None:
    """A crash would lose them, and use their transaction IDs again. A backup flushes them."""
    chain.database.run("SET synchronous_commit = off; UPDATE docs SET body = '' WHERE id = 3")
    if position is not None:
        monkeypatch.setattr(run, "wal_position", lambda _: position)

    assert chain.make().manifest.can_be_base == can_be_base
