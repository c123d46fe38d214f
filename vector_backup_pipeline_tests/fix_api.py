"""The API: its application, and its service as a separate process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from jsonschema_rs import Draft202012Validator

from vector_backup_pipeline.api.app import create_app
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, DagsterDev, eventually
from vector_backup_pipeline_tests.fix_postgres import find_free_port
from vector_backup_pipeline_tests.fix_process import end

BASE = "/api/v0/data_pipeline/vector"
_SERVE = "from vector_backup_pipeline.cli import main; main()"


def app_of(root: Path, **settings: str) -> FastAPI:
    """The application with these settings."""
    return create_app(load_settings(root=str(root), **settings))


def check_by_schema(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Fail unless the value conforms to that schema of the OpenAPI document."""
    whole = {"components": document["components"], "allOf": [schema]}
    validator = Draft202012Validator(whole, validate_formats=True)
    problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not problems, problems


@dataclass
class Api:
    """A running API, and a client of it."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)

    def back_up(self, body: Any = None, **query: str) -> httpx.Response:
        return self.http.post(f"{BASE}/backup", json=body, params=query)

    def restore(self, body: Any) -> httpx.Response:
        return self.http.post(f"{BASE}/restore", json=body)

    def status(self, run_id: str) -> dict[str, Any]:
        answer = self.http.get(f"{BASE}/backup/{run_id}")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def ended(self, run_id: str) -> dict[str, Any]:
        """The status of the run after its end."""

        def read() -> dict[str, Any] | None:
            status = self.status(run_id)
            return status if status["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

        status: dict[str, Any] = eventually(read, f"the end of run {run_id}")
        return status

    def is_up(self) -> bool:
        try:
            self.http.get("/healthz")
        except httpx.TransportError:
            return False
        return True


@contextmanager
def serving(directory: Path, dagster_url: str, environment: dict[str, str]) -> Iterator[Api]:
    """Run `vector-backup serve` with only the settings in `environment`; wait until it is up."""
    port = find_free_port()
    log = directory / f"api_{port}.log"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((PREFIX, "PG", "DAGSTER_"))
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, "serve", "--port", str(port)],
            cwd=directory,
            env=inherited
            | {"PYTHONPATH": str(CHECKOUT), PREFIX + "DAGSTER_URL": dagster_url}
            | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        api = Api(port, log, process)
        eventually(lambda: process.poll() is not None or api.is_up(), "the API")
        assert process.poll() is None, log.read_text()
        yield api
        api.http.close()
    finally:
        end(process, signal.SIGTERM, seconds=30)


def settings_of(dev: DagsterDev) -> dict[str, str]:
    """The settings that the API shares with Dagster's processes."""
    return {"DAGSTER_HOME": str(dev.home), PREFIX + "ROOT": str(dev.root)}
