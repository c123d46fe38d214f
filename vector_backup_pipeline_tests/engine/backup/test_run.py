"""A backup from beginning to end, through the engine alone."""

import pytest

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database


def test_the_first_failed_table_in_the_callers_order_names_the_error(
    langchain: Database, backup: BackupMaker
) -> None:
    langchain.run("CREATE VIEW seen AS SELECT 1 AS one")
    made = backup(langchain.url, tables=("seen", "nowhere"))

    assert made.error is not None
    assert made.error.error_type == "INVALID_PARAMS"


def test_the_manifest_is_the_last_file_and_the_marker_goes(
    langchain: Database, backup: BackupMaker
) -> None:
    names: list[list[str]] = []
    directory = backup.root / "vector_bak"
    backup.between["finish"] = lambda: names.append([path.name for path in directory.iterdir()])
    made = backup(langchain.url)

    assert f".vector_backup_{made.stamp}.run" in names[0]
    assert not [name for name in names[0] if name.endswith(".json")]
    assert made.names == [
        *(made.file(table).name for table in LANGCHAIN),
        f"vector_backup_{made.stamp}.json",
        "vector_backup_log.txt",
    ]


@pytest.mark.parametrize(
    ("left", "error_type"), [(None, "RESOURCE_NOT_FOUND"), (b"id\n", "INTEGRITY_ERROR")]
)
def test_a_file_that_is_not_there_any_more_makes_no_complete_set(
    langchain: Database, backup: BackupMaker, left: bytes | None, error_type: str
) -> None:
    def lose() -> None:
        (path,) = (backup.root / "vector_bak").glob("langchain_pg_embedding_*.csv")
        path.unlink()
        if left is not None:
            path.write_bytes(left)

    backup.between["finish"] = lose
    made = backup(langchain.url)

    assert made.error is not None
    assert made.error.error_type == error_type
    assert f"{made.directory}/langchain_pg_embedding_{made.stamp}.csv" in made.error.message
    assert not made.result.backup_performed
    assert not made.manifest.complete
    assert made.result.errors == [f"langchain_pg_embedding: {error_type}: {made.error.message}"]
    assert made.file("langchain_pg_collection").rows == 4


def test_closing_again_changes_nothing(langchain: Database, backup: BackupMaker) -> None:
    run = backup.run()
    run.resolve()
    assert run.close() == run.close()
    log = (backup.root / "vector_bak" / "vector_backup_log.txt").read_text()
    assert log.count(": CANCELED") == 1


def test_steps_out_of_their_order_are_refused(backup: BackupMaker) -> None:
    run = backup.run()
    with pytest.raises(BackupError, match="order"):
        run.export("langchain_pg_embedding", lambda _: None)
    run.close()
