"""Single rows of a set are restored: by their keys, or those that a later set has lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_chains import Chain, ChainMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of


@pytest.fixture(params=["csv", "binary"])
def chain(make_chain: ChainMaker, request: pytest.FixtureRequest) -> Chain:
    return make_chain(format=request.param, compression="zstd")


def _keys(tmp_path: Path, *keys: dict[str, Any]) -> str:
    file = tmp_path / "keys.jsonl"
    file.write_text("".join(json.dumps(key) + "\n" for key in keys))
    return str(file)


def test_rows_are_restored_by_their_keys(
    database: Database, chain: Chain, restore: RestoreMaker, tmp_path: Path
) -> None:
    # Of the first, the second, the third and the fourth set.
    ids = [7, 11, 1000, 2000]
    before = rows_of(database)
    database.run("DELETE FROM docs WHERE id IN (7, 1000); UPDATE docs SET body = 'x' WHERE id > 10")
    others = database.ask("SELECT * FROM docs WHERE id NOT IN (7, 11, 1000, 2000) ORDER BY id")

    done = restore.succeeds(
        database,
        keys_from=_keys(tmp_path, *({"id": id_} for id_ in ids)),
        on_conflict="replace",
    )

    restored = done.restored("docs")
    assert (restored.rows_restored, restored.digest_matches) == (4, None)
    kept = database.ask("SELECT * FROM docs WHERE id NOT IN (7, 11, 1000, 2000) ORDER BY id")
    assert kept == others
    assert {row for row in rows_of(database) if row.split("\t")[0] in map(str, ids)} <= set(before)


def test_rows_come_from_the_set_that_is_asked_for(
    database: Database, chain: Chain, restore: RestoreMaker, tmp_path: Path
) -> None:
    database.run("DELETE FROM docs")

    done = restore.succeeds(
        database, timestamp=chain.stamps[0], keys_from=_keys(tmp_path, {"id": 3}, {"id": "12"})
    )

    assert done.restored("docs").rows_restored == 2
    assert database.ask("SELECT id FROM docs ORDER BY id") == [(3,), (12,)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": 7}\n{"id": 5000}\n', "line 2"),
        ('{"id": 7}\n{"number": 7}\n', "id"),
        ("7\n", "id"),
        ("", "empty"),
    ],
)
def test_a_key_that_the_set_lacks_is_refused(
    database: Database,
    chain: Chain,
    restore: RestoreMaker,
    tmp_path: Path,
    lines: str,
    message: str,
) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text(lines)

    restore.fails(database, "INVALID_PARAMS", message, keys_from=str(file), on_conflict="skip")


def test_what_was_deleted_or_changed_since_is_restored(
    database: Database, chain: Chain, restore: RestoreMaker
) -> None:
    first, second, _, fourth = chain.stamps
    database.run("DELETE FROM docs WHERE id IN (1000, 2000)")

    done = restore.succeeds(
        database, timestamp="latest", where_removed_since=first, on_conflict="replace"
    )

    # The row 1 changed and changed back; the row 3 had its key changed to 2000.
    assert rows_of(database) == chain.rows[0]
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
    database: Database,
    chain: Chain,
    backup: BackupMaker,
    restore: RestoreMaker,
    tmp_path: Path,
) -> None:
    first = chain.stamps[0]
    made = backup(database.url, tables=("docs",), truncate_tables=())
    selections: list[dict[str, Any]] = [
        {"where_removed_since": first},
        {"keys_from": _keys(tmp_path, {"id": 7})},
    ]
    for parameters in selections:
        restore.fails(database, "INVALID_PARAMS", str(made.stamp), "no key file", **parameters)
    restore.fails(
        database,
        "INVALID_PARAMS",
        "earlier set",
        timestamp=first,
        where_removed_since=chain.stamps[1],
    )
    restore.fails(database, "INVALID_PARAMS", "where_removed_since", where_removed_since="latest")
    restore.fails(database, "INVALID_PARAMS", "not a file", timestamp=first, keys_from="nowhere")


def test_keys_are_those_of_one_table(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, tmp_path: Path
) -> None:
    backup(langchain.url, mode="auto")
    keys_from = _keys(tmp_path, {"id": "doc-7"})
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id = 'doc-7'")

    restore.fails(langchain, "INVALID_PARAMS", "tables", keys_from=keys_from)
    restore.succeeds(langchain, keys_from=keys_from, tables=("langchain_pg_embedding",))

    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding WHERE id = 'doc-7'") == 1
