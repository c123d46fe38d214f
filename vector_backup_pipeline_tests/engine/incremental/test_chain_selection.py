"""Single rows of a set are restored: by their keys, or those that a later set has lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_chains import Chain, in_both_formats
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of


def _keys(tmp_path: Path, *keys: object) -> str:
    file = tmp_path / "keys.jsonl"
    file.write_text("".join(json.dumps(key) + "\n" for key in keys))
    return str(file)


@in_both_formats
def test_rows_are_restored_by_their_keys(
    stored_chain: Chain, restore: RestoreMaker, tmp_path: Path
) -> None:
    database, before = stored_chain.database, stored_chain.rows[-1]
    ids = [7, 11, 1000, 2000]  # Of the first, the second, the third and the fourth set.
    database.run("DELETE FROM docs WHERE id IN (7, 1000); UPDATE docs SET body = 'x' WHERE id > 10")
    others = database.ask("SELECT * FROM docs WHERE id <> ALL(%s) ORDER BY id", [ids])
    keys_from = _keys(tmp_path, *({"id": id_} for id_ in ids))

    done = restore.succeeds(database, keys_from=keys_from, on_conflict="replace")

    restored = done.restored("docs")
    assert (restored.rows_restored, restored.digest_matches) == (4, None)
    assert others == database.ask("SELECT * FROM docs WHERE id <> ALL(%s) ORDER BY id", [ids])
    assert {row for row in rows_of(database) if row.split("\t")[0] in map(str, ids)} <= set(before)


def test_rows_come_from_the_set_that_is_asked_for(
    database: Database, stored_chain: Chain, restore: RestoreMaker, tmp_path: Path
) -> None:
    keys_from = _keys(tmp_path, {"id": 3}, {"id": "12"})

    done = restore.succeeds(database, timestamp=stored_chain.stamps[0], keys_from=keys_from)

    assert done.restored("docs").rows_restored == 2
    assert database.ask("SELECT id FROM docs ORDER BY id") == [(3,), (12,)]


def test_a_key_that_the_set_lacks_is_refused(
    stored_chain: Chain, restore: RestoreMaker, tmp_path: Path
) -> None:
    cases: list[tuple[list[object], str]] = [
        ([{"id": 7}, {"id": 5000}], "line 2"),
        ([{"id": 7}, {"number": 7}], "id"),
        ([7], "id"),
        ([], "empty"),
    ]
    for keys, message in cases:
        parameters: dict[str, Any] = {"keys_from": _keys(tmp_path, *keys), "on_conflict": "skip"}
        restore.fails(stored_chain.database, "INVALID_PARAMS", message, **parameters)


@in_both_formats
def test_what_was_deleted_or_changed_since_is_restored(
    stored_chain: Chain, restore: RestoreMaker
) -> None:
    database = stored_chain.database
    first, second, _, fourth = stored_chain.stamps
    database.run("DELETE FROM docs WHERE id IN (1000, 2000)")

    done = restore.succeeds(
        database, timestamp="latest", where_removed_since=first, on_conflict="replace"
    )

    # The row 1 changed and changed back; the row 3 had its key changed to 2000.
    assert rows_of(database) == stored_chain.rows[0]
    changed = [id_ for id_ in range(2, 201) if id_ % 10 in (1, 2)]
    assert done.restored("docs").rows_restored == len([*changed, 3, 501])
    assert done.result.backup_info is not None
    assert done.result.backup_info.timestamp == first

    done = restore.succeeds(
        database, timestamp=fourth, where_removed_since=second, on_conflict="skip"
    )
    assert done.restored("docs").rows_restored == 0, "each of them exists again"
    assert any("rows existed already and were skipped" in notice for notice in done.result.notices)


def test_a_set_without_keys_cannot_be_compared(
    stored_chain: Chain, backup: BackupMaker, restore: RestoreMaker, tmp_path: Path
) -> None:
    first, second = stored_chain.stamps[:2]
    made = backup(stored_chain.source.url, tables=("docs",), truncate_tables=())
    no_keys = (str(made.stamp), "no key file")
    cases: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (no_keys, {"where_removed_since": first}),
        (no_keys, {"keys_from": _keys(tmp_path, {"id": 7})}),
        (("earlier set",), {"timestamp": first, "where_removed_since": second}),
        (("where_removed_since",), {"where_removed_since": "latest"}),
        (("not a file",), {"timestamp": first, "keys_from": "nowhere"}),
    ]
    for words, parameters in cases:
        restore.fails(stored_chain.database, "INVALID_PARAMS", *words, **parameters)


def test_keys_are_those_of_one_table(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, tmp_path: Path
) -> None:
    backup(langchain.url, mode="auto")
    keys_from = _keys(tmp_path, {"id": "doc-7"})
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id = 'doc-7'")

    restore.fails(langchain, "INVALID_PARAMS", "tables", keys_from=keys_from)
    restore.succeeds(langchain, keys_from=keys_from, tables=("langchain_pg_embedding",))

    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding WHERE id = 'doc-7'") == 1
