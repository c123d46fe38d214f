"""What happens to runs in an outage: the services of systemd, as their units start them.

    python -m benchmarks.outages [--rows 60000] [--outages run_killed …]

Two embedded servers hold the vectors and Dagster's storage. The files are those of `vector-backup
init --for systemd`; only addresses and directories are changed, and what systemd does is done here:
credentials, and a new start of what failed. Takes some fifteen minutes.

1. A schedule due each minute, a new task directory, and more calls than may run at once.
2. The process of a run is killed during the export.
3. The code server and its run are killed.
4. The daemon is killed while runs wait in the queue.
5. The server of Dagster's storage is started again during a run.
6. The code server is stopped during a run, as by `systemctl restart`, while another one waits.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import psycopg2

from vector_backup_pipeline.embedded import EmbeddedServer, start_embedded_server
from vector_backup_pipeline.instance_files import write_instance_files
from vector_backup_pipeline_tests.fix_postgres import find_free_port

_SERVICES = ("code", "daemon", "webserver", "api")
_TOKEN = "outages"
_PATIENCE_SECONDS = 240
_BIN = Path(sys.executable).parent


class Service:
    """A unit, started again as `Restart=on-failure` does."""

    def __init__(self, name: str, home: Path, ports: dict[str, int]) -> None:
        self.name, self.home = name, home
        lines = (home / f"vector-backup-{name}.service").read_text().splitlines()
        self.commands = []
        for line in lines:
            if line.startswith(("ExecStartPre=", "ExecStart=")):
                command = line.partition("=")[2].replace("/opt/vector-backup/bin", str(_BIN))
                for port, free in ports.items():
                    command = command.replace(f"--port {port}", f"--port {free}")
                self.commands.append(shlex.split(command))
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.is_wanted = True
        self._thread = threading.Thread(target=self._keep_running)
        self._thread.start()

    def _keep_running(self) -> None:
        while self.is_wanted:
            code = 0
            self.starts += 1
            for command in self.commands:
                with (self.home / f"{self.name}.log").open("ab") as log:
                    self.process = subprocess.Popen(
                        command,
                        cwd=self.home,
                        stdout=log,
                        stderr=log,
                        # A background job of a shell ignores SIGINT, and Dagster then SIGTERM too.
                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                    )
                code = self.process.wait()
                if code != 0:
                    break
            time.sleep(5)

    def end(self, number: int) -> None:
        """Send a signal to the main process and, as systemd does after it ended, SIGKILL to those
        that it left."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        process = self.process
        process.send_signal(number)
        process.wait(120)
        for child in children:
            if child.is_running():
                child.kill()

    def stop(self) -> None:
        self.is_wanted = False
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGTERM)
        self._thread.join()


class Stack:
    """The services, and what is asked of them."""

    instance: dg.DagsterInstance

    def __init__(self, home: Path, storage: EmbeddedServer, api_port: int) -> None:
        self.home, self.storage, self.api_port = home, storage, api_port
        self.services: dict[str, Service] = {}

    def call(self, path: str, body: Any = None) -> Any:
        url = f"http://127.0.0.1:{self.api_port}{path}"
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - its own API
            return json.load(answer)

    def is_up(self) -> bool:
        try:
            self.call("/healthz")
            return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def back_up(self, **body: Any) -> str:
        """Start a backup, and return its run's id."""
        path = "/api/v0/data_pipeline/vector/backup?wait=false"
        while True:
            try:
                run_id: str = self.call(path, body)["data"]["run_id"]
            except urllib.error.HTTPError as error:
                data = json.load(error)["data"]
                print(f"    {error.code}: {data['detail']}")
                time.sleep(5)
            else:
                return run_id

    def runs(self) -> list[dg.DagsterRun]:
        return list(reversed(self.instance.get_runs()))

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def begun(self, run_id: str) -> int:
        """The process of a run, as soon as it writes a table's file."""
        wait_for(lambda: self.run(run_id).status is dg.DagsterRunStatus.STARTED, "the run")
        wait_for(lambda: list(self.home.glob("root/**/*.csv*")) and self._exports(run_id), "rows")
        events = self.instance.all_logs(run_id)
        data = [e.dagster_event.event_specific_data for e in events if e.dagster_event]
        metadata = [getattr(entry, "metadata", None) or {} for entry in data]
        return next(int(str(entry["pid"].value)) for entry in metadata if "pid" in entry)

    def _exports(self, run_id: str) -> bool:
        steps = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
        return any("export_table" in (entry.step_key or "") for entry in steps)

    def settle(self) -> None:
        """Wait until no run is queued or in progress, nor will be repeated."""
        wait_for(self._is_settled, "the end of all runs")

    def _is_settled(self) -> bool:
        for run in self.runs():
            if not run.is_finished:
                return False
            # The tag comes just after the failure.
            if run.status is dg.DagsterRunStatus.FAILURE and run.tags.get("dagster/will_retry") != (
                "true" if "dagster/auto_retry_run_id" in run.tags else "false"
            ):
                return False
        return True


def wait_for(holds: Callable[[], Any], what: str) -> float:
    """The seconds until it holds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > _PATIENCE_SECONDS:
            raise TimeoutError(f"In vain waited for {what}")
        time.sleep(0.1)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=60_000)
    names = [outage.__name__ for outage in _OUTAGES]
    parser.add_argument("--outages", nargs="*", default=names, choices=names)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        start_embedded_server(Path(directory) / "vectors") as vectors,
        stack_of(Path(directory), vectors, options.rows) as stack,
    ):
        for outage in [outage for outage in _OUTAGES if outage.__name__ in options.outages]:
            before = len(stack.runs())
            began = time.monotonic()
            outage(stack)
            stack.settle()
            print(f"{outage.__name__}: settled after {time.monotonic() - began:.0f} s")
            for run in stack.runs()[before:]:
                retry = run.tags.get("dagster/retry_number", "")
                print(f"    {run.run_id[:8]} {run.status.value:9} {retry and 'retry ' + retry}")
        check(stack)
        starts = {name: service.starts for name, service in stack.services.items()}
        print(f"starts of the services: {starts}")


def no_outage(stack: Stack) -> None:
    (stack.home / "root" / "a_task").mkdir(parents=True)
    for _ in range(3):
        stack.back_up()
    most = 0

    def sensor_has_run() -> bool:
        nonlocal most
        running = [r for r in stack.runs() if r.status is dg.DagsterRunStatus.STARTED]
        most = max(most, len(running))
        return any("dagster/sensor_name" in run.tags for run in stack.runs())

    wait_for(sensor_has_run, "the run of the sensor")
    started_by = Counter(
        "schedule"
        if "dagster/schedule_name" in run.tags
        else "sensor"
        if "dagster/sensor_name" in run.tags
        else "call"
        for run in stack.runs()
    )
    print(f"    started by {dict(started_by)}; at most {most} at once")


def run_killed(stack: Stack) -> None:
    os.kill(stack.begun(stack.back_up()), signal.SIGKILL)


def code_killed(stack: Stack) -> None:
    stack.begun(stack.back_up())
    stack.services["code"].end(signal.SIGKILL)


def daemon_killed(stack: Stack) -> None:
    runs = [stack.back_up() for _ in range(3)]
    stack.begun(runs[0])
    stack.services["daemon"].end(signal.SIGKILL)


def storage_restarted(stack: Stack) -> None:
    stack.begun(stack.back_up())
    stack.storage.stop()
    time.sleep(3)
    stack.storage = _storage(stack.home, stack.storage.port)


def code_stopped(stack: Stack) -> None:
    runs = [stack.back_up() for _ in range(2)]
    stack.begun(runs[0])
    began = time.monotonic()
    stack.services["code"].end(signal.SIGTERM)
    print(f"    the code server ended after {time.monotonic() - began:.0f} s")


_OUTAGES = (no_outage, run_killed, code_killed, daemon_killed, storage_restarted, code_stopped)


def check(stack: Stack) -> None:
    """All runs have ended, and only complete sets are left; the next backup is good."""
    last = stack.back_up(compression="zstd")
    stack.settle()
    assert stack.run(last).status is dg.DagsterRunStatus.SUCCESS
    locations = json.loads(_command(stack, "list", "--json"))["backup_locations"]
    states = Counter(entry["state"] for location in locations for entry in location["backups"])
    print(f"sets: {dict(states)}")
    print(f"runs: {dict(Counter(run.status.value for run in stack.runs()))}")
    pruned = json.loads(_command(stack, "prune", "--keep-last", "1", "--yes", "--json"))
    print(
        f"prune: { ({key: value for key, value in pruned.items() if not isinstance(value, list)}) }"
    )
    verified = json.loads(_command(stack, "verify", "latest", "--json"))
    print(f"verify: {verified.get('success', verified)}")
    files = sorted(path.name for path in (stack.home / "root" / "vector_bak").iterdir())
    print(f"files: {files}")


def _command(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [_BIN / "vector-backup", *arguments], cwd=stack.home, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _storage(home: Path, port: int) -> EmbeddedServer:
    settings: dict[str, str | int] = {"listen_addresses": "127.0.0.1", "port": port}
    return start_embedded_server(home.parent / "storage", settings=settings)


@contextmanager
def stack_of(directory: Path, vectors: EmbeddedServer, rows: int) -> Iterator[Stack]:
    with closing(psycopg2.connect(vectors.connection_string())) as connection, connection:
        connection.cursor().execute(
            "CREATE EXTENSION vector; CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector); "
            "INSERT INTO docs SELECT id, (SELECT array_agg(random()::real) FROM generate_series(1, "
            "384) WHERE id > 0)::vector FROM generate_series(1, %s) id",
            [rows],
        )
    home = directory / "home"
    write_instance_files(home, "systemd")
    (home / "root").mkdir()
    ports = {port: find_free_port() for port in ("4000", "3000", "8084")}
    workspace = home / "workspace.yaml"
    workspace.write_text(workspace.read_text().replace("port: 4000", f"port: {ports['4000']}"))
    storage = _storage(home, find_free_port())
    # Over TCP it wants a password.
    with closing(psycopg2.connect(storage.connection_string())) as connection, connection:
        connection.cursor().execute("CREATE ROLE dagster LOGIN PASSWORD 'dagster'")
        connection.cursor().execute("GRANT CREATE ON SCHEMA public TO dagster")
    url = f"postgresql://dagster:dagster@127.0.0.1:{storage.port}/postgres"
    secrets = {
        "dagster_postgres_url": url,
        "vector_backup_db_url": vectors.connection_string(),
        "vector_backup_api_token": _TOKEN,
    }
    credentials = directory / "credentials"
    credentials.mkdir()
    for name, secret in secrets.items():
        (credentials / name).write_text(secret + "\n")
    settings = {
        "ROOT": home / "root",
        "TABLES": "docs",
        "TRUNCATE_TABLES": "docs",
        "DAGSTER_URL": f"http://127.0.0.1:{ports['3000']}",
        "SCHEDULE_ENABLED": "true",
        "CRON": "* * * * *",
        "SENSOR_ENABLED": "true",
        "SENSOR_BACKFILL": "true",
    }
    lines = [f"VECTOR_BACKUP_{name}={value}" for name, value in settings.items()]
    (home / ".env").write_text("\n".join(lines) + "\n")
    os.environ |= {"DAGSTER_HOME": str(home), "CREDENTIALS_DIRECTORY": str(credentials)}
    stack = Stack(home, storage, ports["8084"])
    try:
        for name in _SERVICES:
            stack.services[name] = Service(name, home, ports)
        seconds = wait_for(stack.is_up, "the services")
        print(f"services: all answer after {seconds:.0f} s")
        # The services read it from its file.
        os.environ["DAGSTER_POSTGRES_URL"] = url
        with dg.DagsterInstance.from_config(str(home)) as stack.instance:
            yield stack
    finally:
        for service in reversed(stack.services.values()):
            service.stop()
        stack.storage.stop()
        if logs := os.environ.get("LOGS"):
            for path in home.glob("*.log"):
                (Path(logs) / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
