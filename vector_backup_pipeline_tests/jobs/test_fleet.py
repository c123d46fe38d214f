"""Three databases of one installation, each with its own settings and root."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from vector_backup_pipeline.cli import commands
from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_api import BASE, app_of
from vector_backup_pipeline_tests.fix_dagster import JobRunner
from vector_backup_pipeline_tests.fix_postgres import database_like

_FLEET = """
one: {connection: ONE_URL, tables: [docs], compression: gzip}
two: {connection: TWO_URL, tables: [docs], retention: {keep_last: 1}}
three: {connection: THREE_URL, tables: [docs], root: %s}
lost: {connection: LOST_URL, tables: [docs]}
"""


def test_each_database_is_backed_up_into_its_root_and_restored_from_it(
    job: JobRunner, server18: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, fleet = tmp_path / "elsewhere", tmp_path / "fleet.yaml"
    fleet.write_text(_FLEET % elsewhere)
    monkeypatch.setenv(PREFIX + "TARGETS", str(fleet))
    with ExitStack() as stack:
        for rows, name in enumerate(("one", "two", "three"), 1):
            database = stack.enter_context(database_like(server18))
            database.run(f"CREATE TABLE docs AS SELECT generate_series(1, {rows}) AS id")
            monkeypatch.setenv(f"{name.upper()}_URL", database.url)

        made = {name: job({"target": name}) for name in ("one", "two", "three")}

        assert {
            name: done.result["tables_backed_up"]["docs"]["row_count"]
            for name, done in made.items()
        } == {
            "one": 1,
            "two": 2,
            "three": 3,
        }
        assert made["one"].directory == job.root / "one" / "vector_bak"
        assert made["three"].directory == elsewhere / "vector_bak"
        assert [*made["one"].directory.glob("*.csv.gz")]
        database.run("TRUNCATE docs")
        restored = job({"target": "three", "timestamp": "latest"}, "vector_restore_job")
        assert restored.outcome.error_type is None
        assert database.ask_one("SELECT count(*) FROM docs") == 3
    job({"target": "two"}, "vector_prune_job")

    listed = CliRunner().invoke(commands, ["list", "--target", "two"]).output
    assert str(job.root / "two" / "vector_bak") in listed and " 2  7.0 B  complete" in listed
    assert "No backups" in CliRunner().invoke(commands, ["list"]).output
    lost = job({"target": "lost"}).outcome
    assert lost.error_type == "INVALID_PARAMS"
    assert "LOST_URL is not set" in str(lost.message)
    with TestClient(app_of(job.root), base_url="http://127.0.0.1") as client:
        answer = client.get(f"{BASE}/restore/list?target=one")
        assert answer.json()["data"]["summary"]["total_backup_sets"] == 1
        refused = client.get(f"{BASE}/restore/list?target=x")
        assert (refused.status_code, refused.json()["data"]["detail"]) == (
            400,
            "target is 'x'. Known from VECTOR_BACKUP_TARGETS: one, two, three, lost.",
        )
