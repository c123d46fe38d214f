"""The sensor for request files, tick by tick, with the runs of a real instance."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.request_files import SENSOR_NAME, make_request_file_sensor
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_dagster import JobRunner
from vector_backup_pipeline_tests.fix_object_store import Bucket

PASSWORD = "hunter2-geheim"


@dataclass
class Requests:
    """The directories of the root in the settings, and what Dagster's daemon would do."""

    instance: dg.DagsterInstance
    started: dict[str, dg.RunRequest] = field(default_factory=dict)

    def directory(self, outcome: str = "") -> BackupDirectory:
        return load_settings().open_root().open_requests(outcome)

    def drop(self, name: str, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.directory().replace(name, text.encode())

    def make_old(self, name: str) -> None:
        path = Path(self.directory().location) / name
        os.utime(path, (path.stat().st_mtime - 60,) * 2)

    def tick(self) -> list[dg.RunRequest]:
        """Evaluate the sensor once; returns the requests with a new run key."""
        context = dg.build_sensor_context(instance=self.instance, sensor_name=SENSOR_NAME)
        sensor = make_request_file_sensor(load_settings())
        evaluated = sensor(context)
        assert isinstance(evaluated, dg.SensorResult)
        new = [r for r in evaluated.run_requests or [] if r.run_key not in self.started]
        self.started |= {str(request.run_key): request for request in new}
        return new

    def tags_of(self, request: dg.RunRequest) -> Mapping[str, str]:
        run_key = str(request.run_key)
        return {"dagster/run_key": run_key, "dagster/sensor_name": SENSOR_NAME, **request.tags}

    def run(self, request: dg.RunRequest) -> str:
        job = defs.resolve_job_def("vector_backup_job")
        config, tags = dict(request.run_config), dict(self.tags_of(request))
        return job.execute_in_process(
            run_config=config, tags=tags, instance=self.instance, raise_on_error=False
        ).run_id

    def result(self, outcome: str, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(b"".join(self.directory(outcome).read(name)))
        return read


@pytest.fixture
def requests(job: JobRunner) -> Requests:
    return Requests(job.instance)


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_each_file_starts_one_run_and_gets_its_result(
    requests: Requests, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        monkeypatch.setenv(PREFIX + "ROOT", f"{bucket.url}/all")
    requests.drop("good.json", {"workers": 2.0})
    requests.drop("bad.json", {"task_id": "no_such_task"})

    bad, good = requests.tick()
    assert good.run_config == {"workers": 2}
    assert good.tags["vector_backup/database"] == "VECTOR_BACKUP_DB_URL"
    assert requests.tick() == []
    run_id = requests.run(good)
    failed_run_id = requests.run(bad)
    assert requests.tick() == []

    assert requests.directory().files() == []
    result = requests.result("done", "good.result.json")
    assert (result["run_id"], result["backup_performed"]) == (run_id, True)
    assert requests.result("done", "good.json") == {"workers": 2.0}
    failure = requests.result("failed", "bad.result.json")
    assert (failure["run_id"], failure["error_type"]) == (failed_run_id, "RESOURCE_NOT_FOUND")
    assert "no_such_task" in failure["message"]

    requests.drop("good.json", {"workers": 2.0})
    assert len(requests.tick()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"workers": ', "not a JSON object"),
        ([{"workers": 2}], "not a JSON object"),
        ({"wrokers": 2}, "Unknown: 'wrokers'"),
        ({"task_id": {"env": "HOME"}}, "task_id must be a valid string"),
        ({"truncate_vector_tables": True, "tables": ["docs"]}, "langchain_pg_embedding"),
        ({"db_connection": "host=/tmp dbname=rag"}, "host"),
        ({"target": "rag_1"}, "target is 'rag_1'"),
        ({"task_id": "requests" * 9000}, "more than 65536 bytes"),
    ],
)
def test_an_invalid_request_fails_once_it_is_old_enough_to_be_complete(
    requests: Requests, content: object, message: str
) -> None:
    requests.drop("r.json", content)
    assert requests.tick() == []
    assert requests.directory().names() == ["r.json"]

    requests.make_old("r.json")
    assert requests.tick() == []

    assert requests.directory().names() == []
    result = requests.result("failed", "r.result.json")
    assert (result["run_id"], result["error_type"]) == (None, "INVALID_PARAMS")
    assert message in result["message"]


@pytest.mark.parametrize(
    ("event", "error_type"),
    [("PIPELINE_CANCELED", "RUN_CANCELED"), ("PIPELINE_FAILURE", "INTERNAL_ERROR")],
)
def test_a_canceled_or_crashed_run_fails_its_request(
    requests: Requests, event: str, error_type: str
) -> None:
    requests.drop("r.json", {})
    (wanted,) = requests.tick()
    job = defs.resolve_job_def("vector_backup_job")
    run = requests.instance.create_run_for_job(job, tags=requests.tags_of(wanted))
    requests.started.clear()
    # The daemon died before it launched the run; it takes the same run again.
    assert [again.run_key for again in requests.tick()] == [wanted.run_key]
    started = dg.DagsterEvent("PIPELINE_START", run.job_name)
    requests.instance.report_dagster_event(started, run.run_id)
    assert requests.tick() == []
    assert requests.directory().names() == ["r.json"]

    requests.instance.report_dagster_event(dg.DagsterEvent(event, run.job_name), run.run_id)
    requests.tick()

    result = requests.result("failed", "r.result.json")
    assert (result["run_id"], result["error_type"]) == (run.run_id, error_type)


def test_a_connection_string_is_sealed(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "SECRET_KEY", "A" * 43 + "=")
    requests.drop("r.json", {"db_connection": f"postgresql://u:{PASSWORD}@db.example.com/rag"})

    (wanted,) = requests.tick()

    assert wanted.run_config["db_connection"].startswith("sealed:")
    assert PASSWORD not in str(wanted)


def test_other_files_and_links_are_ignored(requests: Requests, root: Path) -> None:
    secret = root.parent / "secret.json"
    secret.write_text("{}")
    requests.drop("x.json.tmp", {})
    for name in (".x.json", "a.result.json", "a b.json", "ü.json", "a\n.json"):
        requests.drop(name, {})
    (root / "requests" / "link.json").symlink_to(secret)
    os.mkfifo(root / "requests" / "pipe.json")

    assert requests.tick() == []
    assert len(requests.directory().names()) == 8
    assert requests.directory("failed").names() == []


def test_requests_is_no_task_and_no_directory_of_backups(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests.tick()
    root = load_settings().open_root()

    assert root.task_ids() == []
    with pytest.raises(InvalidParams, match="of request files"):
        root.find("requests")
    monkeypatch.setenv(PREFIX + "DIRECTORY", "requests")
    with pytest.raises(InvalidParams, match="can't have requests"):
        requests.tick()
