"""The difference of two sets: in the engine, on the command line, over REST."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.incremental.diff import SetPair, find_pair
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline_tests.fix_api import BASE, app_of
from vector_backup_pipeline_tests.fix_backup import FinishedBackup
from vector_backup_pipeline_tests.fix_chains import damaged
from vector_backup_pipeline_tests.fix_incremental import Chain
from vector_backup_pipeline_tests.fix_terminal import Terminal


def _pair(a: FinishedBackup, b: FinishedBackup, *tables: str) -> SetPair:
    assert a.stamp is not None
    assert b.stamp is not None
    directory = BackupDirectory(LocalStore(a.directory))
    return find_pair(directory, a.stamp, b.stamp, tables or None)


def _change(chain: Chain) -> None:
    chain.database.run(
        """
        UPDATE docs SET body = 'new' WHERE id IN (1, 2);
        UPDATE docs SET body = body WHERE id = 3;
        DELETE FROM docs WHERE id = 4;
        INSERT INTO docs VALUES (100), (101), (102);
        """
    )


def test_rows_are_compared_over_a_chain(chain: Chain) -> None:
    first = chain.make()
    _change(chain)
    second = chain.make()
    chain.database.run(
        "UPDATE docs SET body = 'text 1' WHERE id = 1; DELETE FROM docs WHERE id = 5"
    )
    third = chain.make(mode="incremental")
    again = chain.make(full_every="0d")

    def counts(a: FinishedBackup, b: FinishedBackup) -> dict[str, int]:
        difference = _pair(a, b).difference()
        assert (difference.from_, difference.to) == (a.stamp, b.stamp)
        return difference.tables["public.docs"].model_dump()

    assert counts(first, second) == {"added": 3, "changed": 2, "removed": 1}
    assert counts(second, first) == {"added": 1, "changed": 2, "removed": 3}
    # Row 1 is as it was.
    assert counts(first, third) == {"added": 3, "changed": 1, "removed": 2}
    assert counts(third, again) == {"added": 0, "changed": 0, "removed": 0}
    assert sorted((change, key["id"]) for _, change, key in _pair(first, third).changed_keys()) == [
        *(("added", id_) for id_ in ("100", "101", "102")),
        ("changed", "2"),
        *(("removed", id_) for id_ in ("4", "5")),
    ]


def test_a_table_without_a_key_file_is_named_and_can_be_left_out(chain: Chain) -> None:
    first = chain.make()
    chain.database.run("CREATE TABLE more (id int PRIMARY KEY)")
    second = chain.make(tables=("docs", "more"))
    full = chain.make(mode="full")
    with pytest.raises(InvalidParams, match=rf"set {full.stamp} has no key file of public\.docs"):
        _pair(first, full)
    with pytest.raises(InvalidParams, match=rf"set {first.stamp} has no key file of public\.more"):
        _pair(first, second)
    assert list(_pair(first, second, "docs").tables) == ["public.docs"]
    with pytest.raises(ResourceNotFound, match="has a table other"):
        _pair(first, second, "docs", "other")


@pytest.mark.parametrize(
    ("statement", "format_"),
    [
        ("ALTER TABLE docs ADD COLUMN more int", "csv"),
        ("ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (id, body)", "csv"),
        ("SELECT", "binary"),
    ],
)
def test_rows_of_another_form_are_not_compared(chain: Chain, statement: str, format_: str) -> None:
    first = chain.make()
    chain.database.run(statement)
    second = chain.make(format=format_)
    with pytest.raises(InvalidParams, match=r"have public\.docs with other columns"):
        _pair(first, second)


def test_a_damaged_key_file_is_not_compared(chain: Chain) -> None:
    first, second = chain.make(), chain.make()
    (path,) = first.directory.glob(f"*_{first.stamp}.keys.parquet")
    with damaged(path), pytest.raises(IntegrityError, match="SHA-256"):
        _pair(first, second).difference()


def test_the_command_shows_numbers_or_keys(
    chain: Chain, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = chain.make()
    _change(chain)
    second = chain.make()
    monkeypatch.setenv("VECTOR_BACKUP_ROOT", str(first.directory.parent))
    sets = [str(first.stamp), str(second.stamp)]

    shown = terminal("diff", *sets)
    assert shown.out.splitlines() == [
        f"Rows from {first.stamp} to {second.stamp}:",
        "  public.docs: 3 added, 2 changed, 1 removed",
    ]
    counts = {"added": 3, "changed": 2, "removed": 1}
    document = {"from": first.stamp, "to": second.stamp, "tables": {"public.docs": counts}}
    assert json.loads(terminal("diff", *sets, "--json").out) == document

    lines = terminal("diff", *sets, "--keys", "--tables", "docs").out.splitlines()
    removed = {"table": "public.docs", "change": "removed", "key": {"id": "4"}}
    assert len(lines) == 6
    assert removed in map(json.loads, lines)

    refused = terminal("diff", *sets, "--tables", "other")
    assert (refused.code, refused.out) == (1, "")
    assert "has a table other" in refused.err


def test_the_api_counts_the_changes(chain: Chain) -> None:
    first = chain.make()
    _change(chain)
    second = chain.make()
    with TestClient(app_of(first.directory.parent), base_url="http://localhost") as client:

        def get(**parameters: str | None) -> tuple[int, dict[str, object]]:
            query = {"from": first.stamp, "to": second.stamp} | parameters
            answer = client.get(f"{BASE}/backup/diff", params=query)
            data: dict[str, object] = answer.json()["data"]
            return answer.status_code, data

        code, data = get()
        assert code == 200
        counts = {"added": 3, "changed": 2, "removed": 1}
        assert (data["from"], data["to"]) == (first.stamp, second.stamp)
        assert data["tables"] == {"public.docs": counts}
        assert get(tables="docs")[1]["tables"] == {"public.docs": counts}
        for parameters, expected in [
            ({"from": "yesterday"}, (400, "INVALID_PARAMS")),
            ({"to": "20000101_000000"}, (404, "RESOURCE_NOT_FOUND")),
            ({"tables": "other"}, (404, "RESOURCE_NOT_FOUND")),
            ({"task_id": "../up"}, (400, "INVALID_PARAMS")),
            ({"task_id": "none"}, (404, "RESOURCE_NOT_FOUND")),
        ]:
            code, data = get(**parameters)
            assert (code, data["error_type"]) == expected
