"""The jobs, run by Dagster in this process and in the tests' own webserver and daemon."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.outcome import RunOutcome, read_outcome
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, PREFIX
from vector_backup_pipeline_tests.fix_postgres import Database, find_free_port
from vector_backup_pipeline_tests.fix_process import end

CHECKOUT = Path(__file__).parent.parent
INSTANCE_CONFIG = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
# Otherwise a run waits in the queue for five seconds.
QUICK_INSTANCE_CONFIG = (
    INSTANCE_CONFIG
    + """
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
"""
)
_PATIENCE_SECONDS = 60.0


# Of a backup, in the order of their documentation.
RESULT_KEYS = [
    "backup_performed",
    "truncate_performed",
    "backup_directory",
    "tables_backed_up",
    "truncate_results",
    "notices",
    "errors",
    "duration",
    "timestamp",
]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as stored in its instance."""

    run: dg.DagsterRun
    events: list[dg.DagsterEvent]

    @property
    def outcome(self) -> RunOutcome:
        return read_outcome(self.events)

    @property
    def result(self) -> dict[str, Any]:
        result = self.outcome.result
        assert result is not None
        return result

    @property
    def directory(self) -> Path:
        return Path(self.result["backup_directory"])

    @property
    def log(self) -> str:
        return (self.directory / "vector_backup_log.txt").read_text()

    @property
    def manifest(self) -> dict[str, Any]:
        (path,) = self.directory.glob("vector_backup_*.json")
        manifest: dict[str, Any] = json.loads(path.read_text())
        return manifest

    def of_type(self, event_type: str) -> list[dg.DagsterEvent]:
        return [event for event in self.events if event.event_type_value == event_type]

    def steps(self, event_type: str) -> list[str | None]:
        return [event.step_key for event in self.of_type(event_type)]

    def metadata(self, event_type: str, step: str) -> dict[str, Any]:
        """What the UI shows beside the first such event of a step."""
        event = next(event for event in self.of_type(event_type) if event.step_key == step)
        data: Any = event.event_specific_data
        return {key: value.value for key, value in data.metadata.items()}


@dataclass(frozen=True)
class JobRunner:
    """Runs jobs of the definitions in this process: the backup, unless another is named."""

    instance: dg.DagsterInstance
    root: Path

    def __call__(
        self, run_config: dict[str, Any] | None = None, job_name: str = "vector_backup_job"
    ) -> FinishedRun:
        return self._run(defs.resolve_job_def(job_name), run_config)

    def some_steps(
        self,
        steps: list[str],
        run_config: dict[str, Any] | None = None,
        job_name: str = "vector_backup_job",
    ) -> FinishedRun:
        """A run of only these steps, as chosen in the launchpad."""
        return self._run(defs.resolve_job_def(job_name).get_subset(op_selection=steps), run_config)

    def _run(self, job: dg.JobDefinition, run_config: dict[str, Any] | None) -> FinishedRun:
        done = job.execute_in_process(
            run_config=run_config or {}, instance=self.instance, raise_on_error=False
        )
        return finished(self.instance, done.run_id)


def finished(instance: dg.DagsterInstance, run_id: str) -> FinishedRun:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    entries = instance.all_logs(run_id)
    return FinishedRun(run, [e.dagster_event for e in entries if e.dagster_event is not None])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of all backups, which VECTOR_BACKUP_ROOT names."""
    path = tmp_path / "training_data"
    path.mkdir()
    monkeypatch.setenv(PREFIX + "ROOT", str(path))
    return path


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance in a directory, which DAGSTER_HOME names."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE_CONFIG)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    storage = tmp_path / "storage"
    storage.mkdir()
    with dg.DagsterInstance.ephemeral(str(storage)) as instance:
        yield instance


@pytest.fixture
def job(
    instance: dg.DagsterInstance,
    root: Path,
    langchain: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> JobRunner:
    """The job on LangChain's tables, configured by the environment."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    return JobRunner(instance, root)


@pytest.fixture
def backed_up(job: JobRunner) -> FinishedRun:
    """LangChain's tables, backed up by the job."""
    made = job()
    assert made.outcome.error_type is None
    return made


def eventually(holds: Callable[[], Any], what: str) -> Any:
    """The first true value of `holds`. Fails after a minute without one."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        if value := holds():
            return value
        time.sleep(0.05)
    raise AssertionError(f"In vain waited for: {what}")


@dataclass(frozen=True)
class DagsterDev:
    """A webserver and a daemon, with their own database and root."""

    port: int
    home: Path
    root: Path
    database: Database
    log: Path

    @property
    def webserver(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer's data; GraphQL errors fail the test."""
        return self._ask(query, variables, _PATIENCE_SECONDS)

    def _ask(self, query: str, variables: dict[str, Any], seconds: float) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.webserver}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=seconds) as reply:  # noqa: S310
            answer = json.load(reply)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def lacks_its_port(self) -> bool:
        """Whether another process took the port first."""
        return "address already in use" in self.log.read_text()

    def is_up(self) -> bool:
        try:
            return bool(self._ask("{ version }", {}, 5.0))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@contextmanager
def webserver_somewhere(dev: DagsterDev) -> Iterator[DagsterDev]:
    """Dagster's webserver, at another port if another process took its port first."""
    with ExitStack() as stack:
        for tries_left in (2, 1, 0):
            address = ("--host", "127.0.0.1", "--port", str(dev.port))
            process = stack.enter_context(_process(dev, "dagster_webserver", *address))
            _wait_until_up(dev, process)
            if process.poll() is None and not dev.lacks_its_port():
                break
            assert tries_left and dev.lacks_its_port(), dev.log.read_text()
            dev = replace(dev, port=find_free_port(), log=dev.log.with_suffix(f".{dev.port}"))
        yield dev


def _wait_until_up(dev: DagsterDev, process: subprocess.Popen[bytes]) -> None:
    eventually(
        lambda: process.poll() is not None or dev.lacks_its_port() or dev.is_up(), "the webserver"
    )


@contextmanager
def dagster_daemon(dev: DagsterDev) -> Iterator[None]:
    """The daemon of the webserver's instance."""
    with _process(dev, "dagster._daemon", "run"):
        yield


@contextmanager
def _process(dev: DagsterDev, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dagster, which is stopped at the end of the block."""
    with dev.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=CHECKOUT,
            env=_installation(dev),
            stdout=log,
            stderr=subprocess.STDOUT,
            # A shell's background job ignores SIGINT, and Dagster then SIGTERM too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        end(process, signal.SIGINT, seconds=60)


def _installation(dev: DagsterDev) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PG"))
    }
    return inherited | {
        "DAGSTER_HOME": str(dev.home),
        DATABASE_URL_VARIABLE: dev.database.url,
        "A_CALLERS_DATABASE": dev.database.url,
        PREFIX + "ROOT": str(dev.root),
        PREFIX + "SENSOR_BACKFILL": "true",
        "PYTHONPATH": str(CHECKOUT),
    }
