"""A set that builds on others restores to the table as it was, whatever the files look like."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from vector_backup_pipeline.engine.postgres.drill_database import DrillServer
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.restore.source import find_source
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_chains import Chain, in_both_formats
from vector_backup_pipeline_tests.fix_incremental import new_chain
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_restore import TRUNCATING, RestoreMaker, rows_of
from vector_backup_pipeline_tests.fix_verify import verify_root


@in_both_formats
def test_each_set_of_a_chain_restores_to_its_own_rows(
    stored_chain: Chain, restore: RestoreMaker
) -> None:
    database = stored_chain.database
    for backup, rows in zip(stored_chain.backups, stored_chain.rows, strict=True):
        done = restore.succeeds(database, timestamp=backup.stamp, **TRUNCATING)

        restored = done.restored("docs")
        assert rows_of(database) == rows
        assert restored.digest_matches is True
        assert restored.source_file == backup.file("docs").name
        assert restored.rows_restored == database.ask_one("SELECT count(*) FROM docs")
    sizes = [backup.file("docs").rows for backup in stored_chain.backups]
    assert sizes[0] > 200
    assert all(0 < size < 50 for size in sizes[1:]), "only changed rows are in the files"


@pytest.mark.usefixtures("in_staging")
@in_both_formats
def test_several_connections_load_the_blocks_of_all_files(
    database: Database, stored_chain: Chain, restore: RestoreMaker
) -> None:
    moments: list[Progress] = []

    done = restore.succeeds(database, moments.append, workers=3)

    assert rows_of(database) == stored_chain.rows[-1]
    assert done.restored("docs").digest_matches is True
    assert moments[-1].rows == database.ask_one("SELECT count(*) FROM docs")
    percents = [moment.percent for moment in moments if moment.percent is not None]
    assert percents == sorted(percents)
    assert percents[-1] == 100


@pytest.mark.parametrize(
    ("stored_chain", "on_conflict"),
    [("csv", "skip"), ("binary", "replace")],
    indirect=["stored_chain"],
)
def test_a_chain_fills_the_gaps_of_an_existing_table(
    stored_chain: Chain, restore: RestoreMaker, on_conflict: str
) -> None:
    database = stored_chain.database
    database.run("DELETE FROM docs WHERE id % 7 = 0")
    if on_conflict == "replace":
        database.run("UPDATE docs SET body = 'lost' WHERE id % 7 = 1")

    done = restore.succeeds(database, on_conflict=on_conflict)

    assert rows_of(database) == stored_chain.rows[-1]
    assert done.restored("docs").digest_matches is None


def test_the_fewer_rows_of_a_file_are_remembered(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    """Of the first file those that are live, of the second the one that is not."""
    chain = new_chain(database, backup)
    chain.make()
    for first, last in ((1, 8), (8, 16)):
        database.run("UPDATE docs SET body = 'new' WHERE id BETWEEN %s AND %s", [first, last])
        chain.make()
    root = BackupRoot(str(backup.root), "vector_bak")
    request = RestoreParameters(timestamp="latest")

    (table,) = find_source(root, request, None).check_files(request).tables

    parts = [(part.rows, len(part.digests or ()), part.unwanted) for part in table.parts]
    assert parts[:2] == [(4, 4, False), (7, 1, True)]
    assert (table.parts[2].rows, table.parts[2].digests) == (9, None)
    rows = rows_of(database)
    restore.succeeds(database, **TRUNCATING)
    assert rows_of(database) == rows


def test_a_chain_restores_under_another_name(stored_chain: Chain, restore: RestoreMaker) -> None:
    database = stored_chain.database

    restore.succeeds(database, rename={"docs": "public.copy"})

    rows = "SELECT * FROM {} ORDER BY id"
    assert database.ask(rows.format("copy")) == database.ask(rows.format("docs"))


def test_a_collection_is_found_in_the_chain(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url, mode="auto", format="binary")
    langchain.run("UPDATE langchain_pg_collection SET name = 'renamed' WHERE name = 'collection 2'")
    langchain.run("UPDATE langchain_pg_embedding SET document = 'new' WHERE id = 'doc-7'")
    made = backup(langchain.url, mode="auto", format="binary")
    assert made.manifest.builds_on is not None
    before = rows_of(langchain)
    langchain.run("UPDATE langchain_pg_embedding SET document = 'lost'")

    collections = [name for (name,) in langchain.ask("SELECT name FROM langchain_pg_collection")]
    done = restore.succeeds(langchain, collections=collections, on_conflict="replace")

    assert done.restored("langchain_pg_embedding").rows_restored > 0
    assert rows_of(langchain) == before


def test_a_restore_test_of_a_chain_passes(stored_chain: Chain, backup: BackupMaker) -> None:
    server = DrillServer(settings_for(stored_chain.database.url), is_throwaway=False)
    options: dict[str, Any] = {"timestamp": stored_chain.stamps[-1], "drill": True, "probes": 0}

    (verdict,) = verify_root(backup.root, lambda: nullcontext(server), **options).sets

    assert verdict.drill is not None, verdict.errors
    assert verdict.drill.passed, verdict.errors


@pytest.mark.parametrize("format_", ["csv", "binary"])
def test_rows_that_move_between_partitions_are_restored_once_and_no_rows_as_none(
    database: Database, backup: BackupMaker, restore: RestoreMaker, format_: str
) -> None:
    """The key has the names of a key file's own columns."""
    database.run(
        """
        CREATE TABLE parts (digest int, stamp text, body text, PRIMARY KEY (digest, stamp))
            PARTITION BY LIST (stamp);
        CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
        CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
        INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, 'text' || i
            FROM generate_series(1, 100) i;
        """
    )
    sets: list[tuple[str | None, list[str]]] = []
    moved = "UPDATE parts SET stamp = 'a' WHERE digest % 5 = 1"
    for change in ("SELECT", moved, "DELETE FROM parts"):
        database.run(change)
        made = backup(
            database.url, tables=("parts",), truncate_tables=(), format=format_, mode="auto"
        )
        assert made.manifest.builds_on == (sets[-1][0] if sets else None)
        sets.append((made.stamp, rows_of(database)))
        if change == moved:
            entry = made.result.tables_backed_up["parts"].model_dump()
            assert (entry["rows_exported"], entry["rows_removed"]) == (20, 10)
    for stamp, rows in sets[1:]:
        database.run("DROP TABLE parts")

        done = restore.succeeds(database, timestamp=stamp)

        assert rows_of(database) == rows
        assert done.restored("parts").digest_matches is True
