"""The command, the jobs and the sensor with a bucket as the root."""

from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.assets import table_asset_key
from vector_backup_pipeline_tests.fix_dagster import JobRunner
from vector_backup_pipeline_tests.fix_object_store import SECRET, Bucket
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import rows_of
from vector_backup_pipeline_tests.fix_terminal import Called, Terminal

EMBEDDINGS = "langchain_pg_embedding"


@pytest.fixture
def url(bucket: Bucket, installed: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root in a bucket."""
    monkeypatch.setenv("VECTOR_BACKUP_ROOT", f"{bucket.url}/all")
    return f"{bucket.url}/all"


def _does(called: Called) -> dict[str, Any]:
    assert called.code == 0, called.err + called.out
    assert SECRET not in called.out + called.err
    return called.document


def test_backup_list_verify_truncate_and_restore(
    installed: Database, bucket: Bucket, url: str, terminal: Terminal
) -> None:
    before = rows_of(installed)

    made = _does(terminal("backup", "--truncate", "--json"))

    assert made["backup_directory"] == f"{url}/vector_bak"
    assert made["truncate_results"][EMBEDDINGS]["rows_after"] == 0
    assert installed.ask_one(f"SELECT count(*) FROM {EMBEDDINGS}") == 0  # noqa: S608
    names = [key.removeprefix("all/vector_bak/") for key in bucket.all_keys()]
    stamp = made["tables_backed_up"][EMBEDDINGS]["backup_file"][-19:-4]
    assert {
        f"langchain_pg_collection_{stamp}.csv",
        f"{EMBEDDINGS}_{stamp}.csv",
        f"vector_backup_{stamp}.json",
        "vector_backup_log.txt",
    } == {name for name in names if not name.startswith("vector_backup_log/")}

    listed = _does(terminal("list", "--json"))
    (location,) = listed["backup_locations"]
    assert location["backups"][0]["timestamp"] == stamp
    assert f"Backups of the root: {url}/vector_bak" in terminal("list").out

    verified = _does(terminal("verify", "--json"))
    assert verified["sets"][0]["passed"]

    for path in (f"{url}/vector_bak", "all/vector_bak"):
        restored = _does(
            terminal(
                *("restore", "--timestamp", stamp, "--backup-path", path),
                *("--truncate-before-restore", "--json"),
            )
        )
        assert restored["restore_results"][EMBEDDINGS]["digest_matches"]
        assert rows_of(installed) == before
    log = bucket.stored("all/vector_bak/vector_backup_log.txt").decode()
    assert log.count("langchain_pg_collection: ") >= 1
    assert SECRET not in log


def test_the_ui_links_to_what_was_stored(job: JobRunner, url: str) -> None:
    made = job()
    assert made.outcome.error_type is None
    shown = made.metadata("STEP_OUTPUT", "resolve_backup_directory")
    assert shown["directory"] == f"{url}/vector_bak"
    (materialization,) = [
        event.step_materialization_data.materialization
        for event in made.of_type("ASSET_MATERIALIZATION")
        if event.asset_key == table_asset_key(EMBEDDINGS)
    ]
    file = made.result["tables_backed_up"][EMBEDDINGS]["backup_file"]
    assert materialization.metadata["path"] == dg.MetadataValue.url(f"{url}/vector_bak/{file}")
