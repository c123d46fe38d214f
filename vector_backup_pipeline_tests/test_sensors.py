"""The task directory sensor, tick by tick, with the runs of a real instance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.sensors import RETRIES, SENSOR_NAME, make_task_directory_sensor
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_sets import SetWriter

SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
CANCELED, STARTED = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.STARTED


@dataclass
class Daemon:
    """Evaluates the sensor like Dagster's daemon: keeps its cursor, and starts a run for each
    request with a new key."""

    instance: dg.DagsterInstance
    root: Path
    cursor: str | None = None
    skip_reason: str | None = None
    runs: dict[str, str] = field(default_factory=dict)

    def tick(self, *, save_cursor: bool = True) -> list[str]:
        """Evaluate once; returns the keys of the started runs."""
        result = self.evaluate()
        made = []
        for request in result.run_requests or []:
            key = request.run_key
            assert key is not None
            if key not in self.runs:
                self.runs[key] = self._make_run(key, request.tags)
                made.append(key)
        if save_cursor:
            self.cursor = result.cursor
        return made

    def evaluate(self) -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, sensor_name=SENSOR_NAME
        )
        sensor = make_task_directory_sensor(load_settings())
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.skip_reason = result.skip_reason.skip_message if result.skip_reason else None
        return result

    def end(self, key: str, status: dg.DagsterRunStatus) -> None:
        run = self.instance.get_run_by_id(self.runs[key])
        assert run is not None
        event_type = {
            SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
            FAILURE: dg.DagsterEventType.RUN_FAILURE,
            CANCELED: dg.DagsterEventType.RUN_CANCELED,
            STARTED: dg.DagsterEventType.RUN_START,
        }[status]
        event = dg.DagsterEvent(event_type.value, run.job_name)
        self.instance.report_dagster_event(event, run.run_id)

    def make_directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        return path

    def _make_run(self, key: str, tags: Mapping[str, str]) -> str:
        own = {"dagster/run_key": key, "dagster/sensor_name": SENSOR_NAME}
        job = defs.resolve_job_def("vector_backup_job")
        return self.instance.create_run_for_job(job, tags={**tags, **own}).run_id


@pytest.fixture
def daemon(instance: dg.DagsterInstance, root: Path) -> Daemon:
    return Daemon(instance, root)


@pytest.fixture
def running(daemon: Daemon) -> Daemon:
    """A daemon after its first tick, on a root without tasks."""
    assert daemon.tick() == []
    return daemon


def test_the_first_tick_only_records_existing_directories(daemon: Daemon) -> None:
    daemon.make_directory("old")

    assert daemon.tick() == []
    assert daemon.skip_reason == "First tick: recorded 1 existing task directories."
    assert daemon.tick() == []


def test_with_backfill_the_first_tick_backs_up_existing_directories(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "SENSOR_BACKFILL", "true")
    daemon.make_directory("old")

    assert daemon.tick() == ["old"]


def test_a_new_directory_gets_one_run_for_its_task(running: Daemon) -> None:
    running.make_directory("t1")

    (request,) = running.evaluate().run_requests or []
    assert (request.run_key, request.run_config) == ("t1", {"task_id": "t1"})
    assert request.tags["vector_backup/task_id"] == "t1"
    assert request.tags["vector_backup/database"] == "VECTOR_BACKUP_DB_URL"
    assert running.tick() == ["t1"]
    running.end("t1", STARTED)
    assert running.tick() == []
    running.end("t1", SUCCESS)
    assert running.tick() == []
    assert running.evaluate().run_requests == []


def test_other_names_and_files_are_ignored(running: Daemon) -> None:
    for name in ("vector_bak", "a b", "..hidden", "with-dash", "ünicode"):
        running.make_directory(name)
    (running.root / "a_file").touch()

    assert running.tick() == []


def test_a_failed_or_canceled_run_is_retried_three_times(running: Daemon) -> None:
    running.make_directory("t1")

    keys = running.tick()
    for status in (CANCELED, FAILURE, FAILURE, FAILURE, FAILURE):
        running.end(list(running.runs)[-1], status)
        keys += running.tick()

    assert keys == ["t1", "t1:1", "t1:2", "t1:3"]
    assert len(keys) == 1 + RETRIES


def test_a_failed_run_that_dagster_retries_is_not_retried_by_the_sensor(running: Daemon) -> None:
    running.make_directory("t1")
    running.tick()
    running.instance.add_run_tags(running.runs["t1"], {"dagster/will_retry": "true"})
    running.end("t1", FAILURE)

    assert running.tick() == []

    job = defs.resolve_job_def("vector_backup_job")
    root_run = {"dagster/root_run_id": running.runs["t1"]}
    running.runs["retry"] = running.instance.create_run_for_job(job, tags=root_run).run_id
    running.end("retry", FAILURE)

    assert running.tick() == ["t1:1"]


def test_only_a_complete_backup_set_counts(running: Daemon) -> None:
    def sets_of(task_id: str) -> SetWriter:
        return SetWriter(running.root / task_id / "vector_bak")

    sets_of("complete").write("20250102_030405")
    sets_of("damaged").damaged("20250102_030405")
    sets_of("incomplete").write("20250102_030405", failed=["t"])
    sets_of("without_manifest").file("docs_20250102_030405.csv")

    assert running.tick() == ["damaged", "incomplete", "without_manifest"]


def test_an_unreadable_directory_waits_and_does_not_stop_the_others(running: Daemon) -> None:
    manifest = running.make_directory("a_odd") / "vector_bak" / "vector_backup_20250102_030405.json"
    manifest.parent.mkdir(parents=True)
    manifest.symlink_to(manifest)
    running.make_directory("b_good")

    assert running.tick() == ["b_good"]
    manifest.unlink()
    assert running.tick() == ["a_odd"]


def test_a_root_that_is_unmounted_for_a_while_requests_nothing(running: Daemon) -> None:
    running.make_directory("t1")
    running.tick()
    running.end("t1", SUCCESS)
    running.tick()
    unmounted = running.root.rename(running.root.parent / "unmounted")
    assert running.tick() == []
    unmounted.rename(running.root)

    assert running.tick() == []
    assert running.evaluate().run_requests == []


def test_a_daemon_killed_before_it_saves_the_cursor_skips_and_repeats_nothing(
    running: Daemon,
) -> None:
    running.make_directory("t1")
    assert running.tick(save_cursor=False) == ["t1"]
    assert running.tick() == []

    running.end("t1", FAILURE)
    assert running.tick(save_cursor=False) == ["t1:1"]
    assert running.tick() == []
    running.end("t1:1", FAILURE)
    assert running.tick() == ["t1:2"]
