"""The server's disk is full, or the directory of backups is read-only."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.faults.test_disk import _as_somebody_else as as_somebody_else
from vector_backup_pipeline_tests.faults.test_disk import _mounted as mounted
from vector_backup_pipeline_tests.faults.watching import MORE_ROWS
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, everything_in


@pytest.fixture
def too_small(langchain: Database) -> Iterator[str]:
    """A tablespace of the server with 1 MiB."""
    data = langchain.server.directory / "data"
    directory = Path(tempfile.mkdtemp(prefix="vector-backup-small-"))
    name = f"small_{langchain.name}"
    try:
        with mounted(directory, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
            shutil.chown(directory, data.stat().st_uid, data.stat().st_gid)
            langchain.run(f"CREATE TABLESPACE {name} LOCATION '{directory}'")
            yield name
            langchain.run(
                f"ALTER DATABASE {langchain.name} RESET default_tablespace;"
                "DROP TABLE IF EXISTS langchain_pg_collection, langchain_pg_embedding"
            )
            langchain.run(f"DROP TABLESPACE {name}")
    finally:
        directory.rmdir()


def test_a_full_disk_leaves_existing_tables_as_they_were(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, too_small: str
) -> None:
    langchain.run(MORE_ROWS)
    backup(langchain.url)
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id ~ '^more'")
    langchain.run("VACUUM FULL langchain_pg_embedding")
    langchain.run(f"ALTER TABLE langchain_pg_embedding SET TABLESPACE {too_small}")

    restore.fails(
        langchain, "DATABASE_ERROR", "No space left on device", truncate_before_restore=True
    )
    restore.fails(langchain, "DATABASE_ERROR", "No space left on device", on_conflict="replace")


@pytest.mark.parametrize("is_staged", [False, True])
def test_a_full_disk_leaves_nothing_where_nothing_was(
    langchain: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    too_small: str,
    is_staged: bool,
    request: pytest.FixtureRequest,
) -> None:
    if is_staged:
        request.getfixturevalue("in_staging")
    langchain.run(MORE_ROWS)
    backup(langchain.url)
    langchain.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")
    langchain.run(f"ALTER DATABASE {langchain.name} SET default_tablespace = {too_small}")

    restore.fails(langchain, "DATABASE_ERROR", "No space left on device")


@pytest.mark.parametrize("way", ["a mount", "permissions"])
def test_a_read_only_directory_can_be_restored(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, way: str
) -> None:
    before = everything_in(langchain)
    with tempfile.TemporaryDirectory() as root:  # Other users cannot enter pytest's own.
        backup.root = restore.root = Path(root)
        backup.root.chmod(0o755)
        made = backup(langchain.url)
        langchain.run("DELETE FROM langchain_pg_embedding")
        if way == "a mount":
            with mounted(made.directory, "--bind", str(made.directory)):
                subprocess.run(
                    ["mount", "-o", "remount,ro,bind", str(made.directory)], check=True, timeout=60
                )
                done = restore(langchain.url, truncate_before_restore=True)
        else:
            made.directory.chmod(0o555)
            for path in made.directory.iterdir():
                path.chmod(0o444)
            langchain.run("ALTER ROLE postgres PASSWORD 'p'")
            with as_somebody_else():  # This user cannot use the server's socket.
                done = restore(langchain.url_as("postgres", "p"), truncate_before_restore=True)

    assert done.error is None, done.error
    assert done.result.restore_performed
    assert everything_in(langchain) == before
    unmarked, unlogged = done.result.notices
    assert ".reading" in unmarked
    assert "prune" in unmarked
    assert unlogged.startswith("The log was not written: ")
    assert "vector_backup_log.txt" in unlogged
