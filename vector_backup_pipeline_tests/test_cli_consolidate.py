"""`vector-backup consolidate`."""

from pathlib import Path

import pytest

from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_terminal import Terminal


def test_the_command_and_a_backup_make_a_set_and_show_it(
    installed: Database, terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}MODE", "auto")
    assert terminal("backup").code == 0
    installed.run("DELETE FROM langchain_pg_embedding WHERE id = 'doc-7'")
    assert terminal("backup").code == 0
    missing = terminal("consolidate", "--source-database", "no such")
    assert (missing.code, "RESOURCE_NOT_FOUND" in missing.err) == (1, True)
    end_of_chain = terminal("show", "latest", "--json").document["timestamp"]

    in_words = terminal("consolidate")
    done = terminal("consolidate", "--timestamp", end_of_chain, "--json")

    assert in_words.code == 0
    assert "✓ langchain_pg_embedding: 57 rows -> langchain_pg_embedding_" in in_words.out
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

    monkeypatch.setenv(f"{PREFIX}CONSOLIDATE_AFTER", "2")
    backup = terminal("backup")
    assert backup.code == 0
    assert backup.err.startswith("Consolidated 2 sets into ")
