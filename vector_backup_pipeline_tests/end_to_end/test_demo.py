"""`vector-backup demo`, which never uses the user's own database."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.fix_terminal import Terminal

pytest.importorskip("langchain_postgres")


@pytest.fixture
def directory() -> Iterator[Path]:
    # The server's user cannot enter pytest's own directory.
    with tempfile.TemporaryDirectory(prefix="vbp-") as name:
        yield Path(name)


def test_it_backs_up_its_own_database_and_tests_the_restore(
    terminal: Terminal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A user's settings, with which the backup would fail.
    for name, value in {
        "VECTOR_BACKUP_DB_URL": "postgresql://u@127.0.0.1:1/not_the_demos",
        "VECTOR_BACKUP_ROOT": "/not/the/demos",
        "VECTOR_BACKUP_TABLES": "not_the_demos",
        "VECTOR_BACKUP_TRUNCATE_TABLES": "not_the_demos",
        "DAGSTER_HOME": "/not/the/demos",
    }.items():
        monkeypatch.setenv(name, value)

    called = terminal("demo", "--directory", str(directory))

    assert called.code == 0, called.err
    assert re.search(r"✓ langchain_pg_embedding: \d{3,} rows", called.out)
    assert "restored and proven" in called.out
    assert "make ui" in called.out
    assert f"VECTOR_BACKUP_ROOT={directory / 'training_data'} " in called.out
    assert len(list(directory.glob("training_data/vector_bak/vector_backup_*[0-9].json"))) == 1
    assert not list(directory.rglob("*.tmp"))
