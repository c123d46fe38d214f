"""`vector-backup consolidate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_terminal import Terminal


@pytest.fixture
def chain_of_two(installed: Database, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}MODE", "auto")
    assert terminal("backup").code == 0
    installed.run("DELETE FROM langchain_pg_embedding WHERE id = 'doc-7'")
    assert terminal("backup").code == 0


def test_the_command_makes_a_set_and_shows_it(
    chain_of_two: None, terminal: Terminal, root: Path
) -> None:
    done = terminal("consolidate", "--json")

    assert (done.code, done.err) == (0, "")
    assert done.document["consolidated"] is True
    stamp = done.document["set_timestamp"]
    assert len(done.document["chain"]) == 2
    assert done.document["tables"]["langchain_pg_embedding"]["row_count"] == 57
    assert (root / "vector_bak" / f"vector_backup_{stamp}.json").exists()
    assert terminal("verify", "--timestamp", stamp).code == 0

    refused = terminal("consolidate", "--timestamp", stamp, "--json")
    assert (refused.code, refused.document["error_type"]) == (2, "INVALID_PARAMS")
    assert refused.document["data"]["consolidated"] is False


def test_the_command_shows_the_set_in_words(chain_of_two: None, terminal: Terminal) -> None:
    done = terminal("consolidate", "--source-database", "no such")
    assert done.code == 1
    assert "RESOURCE_NOT_FOUND" in done.err
    done = terminal("consolidate")
    assert done.code == 0
    assert "✓ langchain_pg_embedding: 57 rows -> langchain_pg_embedding_" in done.out


def test_a_backup_that_consolidates_says_so(
    chain_of_two: None, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}CONSOLIDATE_AFTER", "3")

    done = terminal("backup")

    assert done.code == 0
    assert done.err.startswith("Consolidated 3 sets into 2")
