"""Queries of Dagster's webserver, and the ways in which they can fail."""

import base64
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from vector_backup_pipeline.api import dagster_client
from vector_backup_pipeline.api.dagster_client import DagsterClient, RunEvent
from vector_backup_pipeline.api.errors import DagsterUnavailable, RunUnresolved, StateConflict
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline_tests.api.dagster_stand_in import JOB, StandIn, event
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_postgres import find_free_port

CONFIG = {"workers": 2, "tables": ["docs"]}
_BROKEN: dict[str, Callable[[], Response]] = {
    "HTTP 500": lambda: Response("Internal\nServer Error", 500),
    "HTML": lambda: HTMLResponse("<html>A proxy greets you.</html>"),
    "no JSON": lambda: Response("{", media_type="application/json"),
    "a list": lambda: JSONResponse([1]),
    "no data": lambda: JSONResponse({"data": None}),
    "GraphQL's errors": lambda: JSONResponse(
        {"data": {"version": "1"}, "errors": [{"message": "No field.\n  File /srv/x.py"}]}
    ),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagster_client, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(dagster_client, "_LAUNCH_SECONDS", 0.1)


def _launch(client: DagsterClient) -> Any:
    return client.launch(JOB, CONFIG, {})


def _selected(dagster: StandIn) -> str:
    """The location in which the last run was launched."""
    location: str = dagster.queries[-1][1]["params"]["selector"]["repositoryLocationName"]
    return location


def test_a_run_is_launched_where_the_job_is(dagster: StandIn) -> None:
    async def launch_twice(client: DagsterClient) -> list[str]:
        dagster.locations = {"other": ["their_job"], "ours": ["their_job", JOB]}
        first = await client.launch(JOB, CONFIG, {})
        assert _selected(dagster) == "ours"
        # The location may be renamed meanwhile.
        dagster.locations = {"renamed": [JOB]}
        return [first, await client.launch(JOB, CONFIG, {"vector_backup/target": "rag_1"})]

    assert dagster.ask(launch_twice) == list(dagster.runs)

    assert _selected(dagster) == "renamed"
    assert [run.config for run in dagster.runs.values()] == [CONFIG, CONFIG]
    assert len({run.tags["vector_backup/request"] for run in dagster.runs.values()}) == 2
    assert [run.tags.get("vector_backup/target") for run in dagster.runs.values()] == [
        None,
        "rag_1",
    ]


@pytest.mark.parametrize(
    ("locations", "configured", "chosen"),
    [
        ({"a": [JOB], "b": [JOB]}, "b", "b"),
        ({"a": [JOB], "b": [JOB]}, None, "loaded in: a, b"),
        ({"a": [JOB], "b": []}, "b", "loaded in: a"),
        ({"other": ["their_job"]}, None, "loaded in: none"),
        ({}, None, "loaded in: none"),
    ],
)
def test_the_location_is_that_of_the_settings_or_the_only_one(
    dagster: StandIn, locations: dict[str, list[str]], configured: str | None, chosen: str
) -> None:
    dagster.locations = locations

    async def launch(_: DagsterClient) -> str:
        client = DagsterClient(dagster.url, configured)
        try:
            return await client.launch(JOB, CONFIG, {})
        finally:
            await client.aclose()

    if chosen in locations:
        dagster.ask(launch)
        assert _selected(dagster) == chosen
    else:
        with pytest.raises(DagsterUnavailable, match=f"{chosen}.*Deployment.*DAGSTER_LOCATION"):
            dagster.ask(launch)
        assert dagster.runs == {}


@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN)
def test_a_launch_whose_answer_is_lost_is_found_and_not_repeated(
    dagster: StandIn, broken: Callable[[], Response]
) -> None:
    dagster.instead = lambda operation: broken() if operation == "Launch" else None

    run_id = dagster.ask(_launch)

    assert list(dagster.runs) == [run_id]
    assert dagster.count("Launch") == 1


@pytest.mark.parametrize("left", [None, "NOT_STARTED"])
def test_a_launch_that_is_not_found_names_the_tag_to_look_for(
    dagster: StandIn, left: str | None
) -> None:
    def die(operation: str) -> Response | None:
        """Before the run is made, or before it is queued."""
        if operation != "Launch":
            return None
        for run_id in list(dagster.runs):
            if left is None:
                del dagster.runs[run_id]
            else:
                dagster.runs[run_id].status = left
        return Response(status_code=500)

    dagster.instead = die

    with pytest.raises(RunUnresolved, match="may still start") as refusal:
        dagster.ask(_launch)
    assert not refusal.value.can_retry
    tag = dagster.queries[1][1]["params"]["executionMetadata"]["tags"][0]
    assert f"{tag['key']}={tag['value']}" in refusal.value.message
    assert dagster.count("Launch") == 1
    assert dagster.count("Runs") > 1


def test_a_run_config_that_dagster_rejects_is_the_callers_mistake(dagster: StandIn) -> None:
    errors = [{"message": "One."}, {"message": "Two."}]
    rejected = {"__typename": "RunConfigValidationInvalid", "errors": errors}
    dagster.instead = lambda operation: (
        JSONResponse({"data": {"launchRun": rejected}}) if operation == "Launch" else None
    )
    with pytest.raises(InvalidParams, match=r"^One\. Two\.$"):
        dagster.ask(_launch)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Broken.\n\nStack Trace:\n  File /srv/x.py, line 1\n", "Broken."),
        (None, "PythonError"),
    ],
)
def test_only_the_first_line_of_dagsters_own_errors_is_shown(
    dagster: StandIn, message: str | None, shown: str
) -> None:
    error = {"__typename": "PythonError", "message": message}
    fields = {
        "Jobs": "repositoriesOrError",
        "Launch": "launchRun",
        "Runs": "runsOrError",
        "Run": "runOrError",
        "Terminate": "terminateRun",
    }
    run = dagster.add()
    dagster.instead = lambda operation: JSONResponse({"data": {fields[operation]: error}})

    async def ask_for_everything(client: DagsterClient) -> None:
        for query in (
            _launch(client),
            client.statuses(runIds=[run]),
            client.terminate(run),
            client.read(run),
        ):
            with pytest.raises(DagsterUnavailable, match=f": {shown}$"):
                await query

    dagster.ask(ask_for_everything)


@pytest.mark.parametrize("broken", [*_BROKEN.values(), None], ids=[*_BROKEN, "nobody"])
def test_a_webserver_without_answer_is_reported_without_the_password(
    dagster: StandIn, broken: Callable[[], Response] | None
) -> None:
    dagster.instead = lambda _: broken() if broken else None
    url = dagster.url if broken else f"http://127.0.0.1:{find_free_port()}"

    async def ask_for_everything(client: DagsterClient) -> None:
        for query in (_launch(client), client.health(), client.read("x")):
            with pytest.raises(DagsterUnavailable) as refusal:
                await query
            error = refusal.value
            text = all_that_it_tells(error) + "".join(traceback.format_exception(error))
            assert "hunter2" not in text
            assert (error.http_status, error.can_retry) == (503, True)
            assert len(error.message.splitlines()) == 1
            assert "VECTOR_BACKUP_DAGSTER_URL" in error.message
            assert "/srv" not in error.message

    dagster.ask(ask_for_everything, url.replace("//", "//user:hunter2@"))


def test_user_and_password_of_the_url_are_sent_to_a_proxy_before_dagster(dagster: StandIn) -> None:
    assert dagster.ask(_launch, dagster.url.replace("//", "//user:hunter%402@")) in dagster.runs

    assert dagster.authorizations == {"Basic " + base64.b64encode(b"user:hunter@2").decode()}


def test_events_are_read_as_plain_values(dagster: StandIn) -> None:
    big = 3_000_000_000
    run_id = dagster.add(
        "SUCCESS",
        JOB,
        event("ExecutionStepOutputEvent", "a", rows=big, size="1 KB", percent=1.5, ok=True),
        event("ExecutionStepFailureEvent", "b", error_type="X", details={"a": [1]}),
        event("ExecutionStepFailureEvent", "c"),
        event("EngineEvent", None, nothing=None),
        event("RunSuccessEvent"),
    )

    reading = dagster.ask(lambda client: client.read(run_id))

    assert reading is not None
    assert (reading.job, reading.status) == (JOB, "SUCCESS")
    assert (reading.created_at, reading.started_at, reading.ended_at) == (1.5, 2.5, 3.5)
    values = {"rows": big, "size": "1 KB", "percent": 1.5, "ok": True}
    assert list(reading.events) == [
        RunEvent("ExecutionStepOutputEvent", "a", values),
        RunEvent("ExecutionStepFailureEvent", "b", {"error_type": "X", "details": {"a": [1]}}),
        RunEvent("ExecutionStepFailureEvent", "c", {}),
        RunEvent("EngineEvent", None, {"nothing": None}),
        RunEvent("RunSuccessEvent", None, {}),
    ]


def test_a_run_that_does_not_exist_is_none(dagster: StandIn) -> None:
    assert dagster.ask(lambda client: client.read("none")) is None


def test_a_run_that_has_ended_is_not_ended_again(dagster: StandIn) -> None:
    running, done = dagster.add(), dagster.add("SUCCESS")

    dagster.ask(lambda client: client.terminate(running))

    assert dagster.runs[running].status == "CANCELED"
    with pytest.raises(StateConflict, match="It ended"):
        dagster.ask(lambda client: client.terminate(done))


@pytest.mark.parametrize(
    ("healthy", "required", "is_stuck"),
    [(True, True, False), (False, True, True), (None, True, True), (False, False, False)],
)
def test_a_queue_is_stuck_when_the_daemon_it_needs_has_no_heartbeat(
    dagster: StandIn, healthy: bool | None, required: bool, is_stuck: bool
) -> None:
    kind = "QUEUED_RUN_COORDINATOR"
    dagster.daemons = [
        {"daemonType": kind, "required": required, "healthy": healthy},
        {"daemonType": "SENSOR", "required": True, "healthy": False},
    ]

    health = dagster.ask(lambda client: client.health())

    assert health.has_stuck_queue is is_stuck
    assert health.version == "1.13.27"
    assert set(health.daemons) == ({kind, "SENSOR"} if required else {"SENSOR"})
