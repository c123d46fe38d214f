"""A caller waits while Dagster has no daemon, or is unavailable."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.end_to_end.graphql_proxy import proxy_before
from vector_backup_pipeline_tests.fix_api import Api, serving, settings_of
from vector_backup_pipeline_tests.fix_dagster import DagsterDev, eventually


def _health(api: Api) -> tuple[int, str | None]:
    answer = api.http.get("/healthz")
    daemons = answer.json()["data"].get("daemons", {})
    return answer.status_code, daemons.get("QUEUED_RUN_COORDINATOR")


def test_a_missing_daemon_is_reported_and_a_caller_waits_through_an_outage(
    webserver: DagsterDev, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with (
        proxy_before(webserver.webserver) as proxy,
        serving(tmp_path, proxy.url, settings_of(webserver)) as api,
        ThreadPoolExecutor(1) as caller,
    ):
        assert _health(api) == (503, "missing")
        request.getfixturevalue("dagster_dev")
        eventually(lambda: _health(api) == (200, "alive"), "the daemon")

        waiting = caller.submit(api.back_up, {})
        eventually(lambda: proxy.times("Runs"), "somebody who waits")
        proxy.is_down = True
        eventually(lambda: _health(api) == (503, None), "the outage")
        eventually(lambda: _has_ended(webserver), "the end of the run")
        assert not waiting.done()
        proxy.is_down = False
        answer = waiting.result()

    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["backup_performed"] is True


def _has_ended(dev: DagsterDev) -> bool:
    runs = dev.ask("{ runsOrError { ... on Runs { results { status } } } }")["runsOrError"]
    return [run["status"] for run in runs["results"]] == ["SUCCESS"]
