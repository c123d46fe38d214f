"""Dagster without its daemon, and restarted, while a caller waits."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from vector_backup_pipeline.embedded import find_free_port
from vector_backup_pipeline_tests.fix_api import Api, serving, settings_of
from vector_backup_pipeline_tests.fix_dagster import (
    QUICK_INSTANCE_CONFIG,
    DagsterDev,
    dagster_process,
    eventually,
)


def _health(api: Api) -> tuple[int, str | None]:
    answer = api.http.get("/healthz")
    daemons = answer.json()["data"].get("daemons", {})
    return answer.status_code, daemons.get("QUEUED_RUN_COORDINATOR")


def _is_queued(dev: DagsterDev) -> bool:
    runs = dev.ask("{ runsOrError { ... on Runs { results { status } } } }")["runsOrError"]
    return [run["status"] for run in runs["results"]] == ["QUEUED"]


def test_a_caller_waits_through_a_missing_daemon_and_a_restart(
    dagster_dev: DagsterDev, tmp_path: Path
) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    home.mkdir()
    root.mkdir()
    (home / "dagster.yaml").write_text(QUICK_INSTANCE_CONFIG)
    dev = replace(
        dagster_dev, port=find_free_port(), home=home, root=root, log=tmp_path / "log.txt"
    )
    with (
        serving(tmp_path, dev.webserver, settings_of(dev)) as api,
        ThreadPoolExecutor(1) as caller,
    ):
        assert _health(api) == (503, None)
        with dagster_process(dev, "dagster_webserver") as webserver:
            assert eventually(lambda: _health(api)[1], "its health") == "missing"
            assert _health(api)[0] == 503
            waiting = caller.submit(api.back_up, {})
            eventually(lambda: _is_queued(dev), "the run")
            webserver.kill()
            webserver.wait()

        with dagster_process(dev, "dagster", "dev"):
            eventually(lambda: _health(api) == (200, "alive"), "its health")
            answer = waiting.result()

    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["backup_performed"] is True
