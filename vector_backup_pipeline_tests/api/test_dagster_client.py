"""Dagster's webserver as the API asks it, and every way in which it may not answer."""

import base64
import json
import traceback
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from vector_backup_pipeline.api import dagster_client
from vector_backup_pipeline.api.dagster_client import DagsterClient, RunEvent
from vector_backup_pipeline.api.errors import DagsterUnavailable, RunUnresolved, StateConflict
from vector_backup_pipeline.embedded import find_free_port
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline_tests.api.dagster_stand_in import JOB, StandIn, event
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells

CONFIG = {"workers": 2, "tables": ["docs"]}
_ROOT_FIELDS = ("repositoriesOrError", "launchRun", "runOrError", "instance", "version")
_BROKEN: dict[str, Callable[[str], Response]] = {
    "HTTP 500": lambda _: Response("Internal\nServer Error", 500),
    "HTTP 302": lambda _: Response(status_code=302, headers={"Location": "/elsewhere"}),
    "HTML": lambda _: HTMLResponse("<html>A proxy greets you.</html>"),
    "no JSON": lambda _: Response("{", media_type="application/json"),
    "bytes": lambda _: Response(b"\xff\xfe\x00"),
    "a list": lambda _: JSONResponse([1]),
    "null": lambda _: JSONResponse(None),
    "no data": lambda _: JSONResponse({"data": None}),
    "nothing of what was asked": lambda _: JSONResponse({"data": {}}),
    "other shapes": lambda _: JSONResponse({"data": {field: [] for field in _ROOT_FIELDS}}),
    "GraphQL's errors": lambda _: JSONResponse(
        {"data": {"version": "1"}, "errors": [{"message": "No field.\n  File /srv/x.py"}]}
    ),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagster_client, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(dagster_client, "_LAUNCH_SECONDS", 0.1)


def _launch(client: DagsterClient) -> Any:
    return client.launch(JOB, CONFIG)


def _instead(name: str, answer: Response) -> Callable[[str], Response | None]:
    return lambda asked: answer if asked == name else None


def _as_graphql(name: str, **told: Any) -> JSONResponse:
    return JSONResponse({"data": {name: told}})


def test_a_run_is_launched_where_the_jobs_are(dagster: StandIn) -> None:
    dagster.locations = {"other": ["their_job"], "ours": ["their_job", JOB]}

    run_id = dagster.ask(_launch)

    assert dagster.runs[run_id].config == CONFIG
    assert dagster.asked[1][1]["params"]["selector"] == {
        "repositoryLocationName": "ours",
        "repositoryName": "__repository__",
        "jobName": JOB,
    }


def test_where_the_jobs_are_is_asked_once(dagster: StandIn) -> None:
    async def twice(client: DagsterClient) -> None:
        await client.launch(JOB, CONFIG)
        await client.launch(JOB, CONFIG)

    dagster.ask(twice)

    assert (dagster.count("Jobs"), dagster.count("Launch")) == (1, 2)
    assert len(dagster.runs) == 2
    tags = [tuple(run.tags.items()) for run in dagster.runs.values()]
    assert len(set(tags)) == 2


def test_a_location_that_was_renamed_is_found_again(dagster: StandIn) -> None:
    async def before_and_after(client: DagsterClient) -> str:
        await client.launch(JOB, CONFIG)
        dagster.locations = {"renamed": [JOB]}
        return await client.launch(JOB, CONFIG)

    assert dagster.ask(before_and_after) in dagster.runs
    assert len(dagster.runs) == 2
    assert dagster.count("Launch") == 3


def test_a_job_that_stays_unknown_is_told_by_the_first_line_alone(dagster: StandIn) -> None:
    answer = _as_graphql(
        "launchRun", __typename="PipelineNotFoundError", message="\n Gone.\n  File /srv/x.py"
    )
    dagster.instead = _instead("Launch", answer)

    with pytest.raises(DagsterUnavailable, match=r"^Dagster could not launch the run: Gone\.$"):
        dagster.ask(_launch)
    assert dagster.count("Launch") == 2


@pytest.mark.parametrize("usual", [True, False])
def test_of_several_locations_the_usual_one_is_taken(dagster: StandIn, usual: bool) -> None:
    dagster.locations = {"a": [JOB], "vector_backup_pipeline" if usual else "z": [JOB]}

    if usual:
        dagster.ask(_launch)
        selector = dagster.asked[-1][1]["params"]["selector"]
        assert selector["repositoryLocationName"] == "vector_backup_pipeline"
    else:
        with pytest.raises(DagsterUnavailable, match=r"there is: a, z.*DAGSTER_LOCATION"):
            dagster.ask(_launch)


@pytest.mark.parametrize("wanted", ["a", "b", "missing"])
def test_the_location_of_the_settings_is_taken(dagster: StandIn, wanted: str) -> None:
    dagster.locations = {"a": [JOB], "b": [JOB], "vector_backup_pipeline": [JOB]}

    async def launch(_: DagsterClient) -> str:
        client = DagsterClient(dagster.url, wanted)
        try:
            return await client.launch(JOB, CONFIG)
        finally:
            await client.aclose()

    if wanted == "missing":
        with pytest.raises(DagsterUnavailable, match="no code location missing with the job"):
            dagster.ask(launch)
    else:
        dagster.ask(launch)
        selector = dagster.asked[-1][1]["params"]["selector"]
        assert selector["repositoryLocationName"] == wanted


@pytest.mark.parametrize("locations", [{}, {"broken": []}, {"other": ["their_job"]}])
def test_with_no_location_that_has_the_job_the_advice_says_where_to_look(
    dagster: StandIn, locations: dict[str, list[str]]
) -> None:
    dagster.locations = locations

    with pytest.raises(DagsterUnavailable, match=r"there is: none.*Deployment"):
        dagster.ask(_launch)
    assert dagster.runs == {}


@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN)
def test_a_launch_whose_reply_is_lost_is_found_and_not_launched_again(
    dagster: StandIn, broken: Callable[[str], Response]
) -> None:
    dagster.instead = lambda asked: broken(asked) if asked == "Launch" else None

    run_id = dagster.ask(_launch)

    assert list(dagster.runs) == [run_id]
    assert dagster.count("Launch") == 1


def test_a_lost_launch_is_looked_for_while_the_webserver_comes_back(dagster: StandIn) -> None:
    down = iter([True, True, True, False])
    dagster.instead = lambda asked: (
        Response(status_code=503) if asked != "Jobs" and next(down) else None
    )

    assert dagster.ask(_launch) in dagster.runs
    assert [name for name, _ in dagster.asked] == ["Jobs", "Launch", *["RunsWithTag"] * 3]


def test_a_launch_of_which_nothing_is_found_says_by_which_tag_to_look(dagster: StandIn) -> None:
    def forget(asked: str) -> Response | None:
        if asked != "Launch":
            return None
        dagster.runs.clear()
        return Response(status_code=500)

    dagster.instead = forget

    with pytest.raises(RunUnresolved, match="may still start") as refusal:
        dagster.ask(_launch)
    assert not refusal.value.can_retry
    tag = dagster.asked[1][1]["params"]["executionMetadata"]["tags"][0]
    assert f"{tag['key']}={tag['value']}" in refusal.value.message
    assert dagster.count("Launch") == 1
    assert dagster.count("RunsWithTag") > 1


def test_a_run_that_was_made_and_never_queued_is_not_taken_for_launched(dagster: StandIn) -> None:
    def die_before_it_is_queued(asked: str) -> Response | None:
        if asked != "Launch":
            return None
        (run,) = dagster.runs.values()
        run.status = "NOT_STARTED"
        return Response(status_code=500)

    dagster.instead = die_before_it_is_queued

    with pytest.raises(RunUnresolved, match="may still start"):
        dagster.ask(_launch)


def test_a_config_that_dagster_does_not_take_is_the_callers_mistake(dagster: StandIn) -> None:
    dagster.instead = _instead(
        "Launch",
        _as_graphql(
            "launchRun",
            __typename="RunConfigValidationInvalid",
            errors=[{"message": "One."}, {"message": "Two."}],
        ),
    )
    with pytest.raises(InvalidParams, match=r"^One\. Two\.$"):
        dagster.ask(_launch)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Broken.\n\nStack Trace:\n  File /srv/x.py, line 1\n", "Broken."),
        ("\n\n  Broken.\r\nMore.", "Broken."),
        ("", "PythonError"),
        (" \n ", "PythonError"),
        (None, "PythonError"),
    ],
)
def test_of_dagsters_own_errors_the_first_line_is_told(
    dagster: StandIn, message: str | None, told: str
) -> None:
    error = {"__typename": "PythonError", "message": message}
    names = {
        "Jobs": "repositoriesOrError",
        "Launch": "launchRun",
        "Statuses": "runsOrError",
        "Terminate": "terminateRun",
    }
    run = dagster.add()
    dagster.instead = lambda asked: (
        _as_graphql(names[asked], **error)
        if asked in names
        else JSONResponse({"data": {"runOrError": error, "logsForRun": error}})
    )

    async def ask_for_everything(client: DagsterClient) -> None:
        for asking in (
            _launch(client),
            client.statuses([run]),
            client.terminate(run),
            client.read(run),
        ):
            with pytest.raises(DagsterUnavailable, match=f": {told}$"):
                await asking

    dagster.ask(ask_for_everything)


@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN)
def test_a_webserver_that_does_not_answer_as_dagster_is_told_without_the_password(
    dagster: StandIn, broken: Callable[[str], Response]
) -> None:
    dagster.instead = broken
    url = dagster.url.replace("//", "//user:hunter2@")

    async def ask_for_everything(client: DagsterClient) -> None:
        for asking in (_launch(client), client.health(), client.read("x")):
            with pytest.raises(DagsterUnavailable) as refusal:
                await asking
            _check_no_password(refusal.value)
            assert refusal.value.http_status == 503
            assert refusal.value.can_retry
            assert len(refusal.value.message.splitlines()) == 1
            assert "/srv" not in refusal.value.message

    dagster.ask(ask_for_everything, url)


def test_a_webserver_that_is_not_there_is_told_at_once_and_nothing_was_launched(
    dagster: StandIn,
) -> None:
    url = f"http://user:hunter2@127.0.0.1:{find_free_port()}"

    with pytest.raises(DagsterUnavailable, match=r"not reached \(ConnectError\)") as refusal:
        dagster.ask(_launch, url)
    _check_no_password(refusal.value)
    assert "not known whether" not in refusal.value.message


def test_a_launch_that_never_reached_anybody_is_not_looked_for(dagster: StandIn) -> None:
    async def launch_when_it_has_gone(client: DagsterClient) -> None:
        await client.launch(JOB, CONFIG)
        client._http.base_url = httpx.URL(f"http://127.0.0.1:{find_free_port()}")
        await client.launch(JOB, CONFIG)

    with pytest.raises(DagsterUnavailable, match="not reached") as refusal:
        dagster.ask(launch_when_it_has_gone)
    assert "not known whether" not in refusal.value.message


def _check_no_password(error: DagsterUnavailable) -> None:
    told = all_that_it_tells(error) + "".join(traceback.format_exception(error))
    assert "hunter2" not in told


def test_user_and_password_of_the_url_are_shown_to_who_stands_before_dagster(
    dagster: StandIn,
) -> None:
    assert dagster.ask(_launch, dagster.url.replace("//", "//user:hunter%402@")) in dagster.runs

    assert dagster.authorizations == {"Basic " + base64.b64encode(b"user:hunter@2").decode()}


def test_events_are_read_as_plain_values(dagster: StandIn) -> None:
    big = 3_000_000_000
    run_id = dagster.add(
        "SUCCESS",
        JOB,
        event("ExecutionStepOutputEvent", "a", rows=big, size="1 KB", percent=1.5, ok=True),
        event("ExecutionStepFailureEvent", "b", error_type="X", told={"a": [1]}),
        event("ExecutionStepFailureEvent", "c"),
        event("EngineEvent", None, nothing=None),
        event("RunSuccessEvent"),
    )

    reading = dagster.ask(lambda client: client.read(run_id))

    assert reading is not None
    assert (reading.job, reading.status) == (JOB, "SUCCESS")
    assert (reading.created_at, reading.started_at, reading.ended_at) == (1.5, 2.5, 3.5)
    assert list(reading.events) == [
        RunEvent(
            "ExecutionStepOutputEvent",
            "a",
            {"rows": big, "size": "1 KB", "percent": 1.5, "ok": True},
        ),
        RunEvent("ExecutionStepFailureEvent", "b", {"error_type": "X", "told": {"a": [1]}}),
        RunEvent("ExecutionStepFailureEvent", "c", {}),
        RunEvent("EngineEvent", None, {"nothing": None}),
        RunEvent("RunSuccessEvent", None, {}),
    ]


def test_a_run_that_is_not_there_is_none(dagster: StandIn) -> None:
    assert dagster.ask(lambda client: client.read("none")) is None
    assert dagster.ask(lambda client: client.statuses(["none"])) == {}


def test_a_run_that_has_ended_is_not_ended_again(dagster: StandIn) -> None:
    running, done = dagster.add(), dagster.add("SUCCESS")

    dagster.ask(lambda client: client.terminate(running))

    assert dagster.runs[running].status == "CANCELED"
    with pytest.raises(StateConflict, match="has ended"):
        dagster.ask(lambda client: client.terminate(done))


@pytest.mark.parametrize(
    ("healthy", "required", "is_stuck"),
    [(True, True, False), (False, True, True), (None, True, True), (False, False, False)],
)
def test_a_queue_is_stuck_when_the_daemon_it_needs_gives_no_sign_of_life(
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
    json.dumps(dict(health.daemons))
