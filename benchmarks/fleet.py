"""Many databases: 20 backups that are due in the same minute, to their end, and 500 schedules.

    python -m benchmarks.fleet [--databases 20] [--limit 4] [--schedules 500]

The first part runs Dagster's daemon on an embedded server with that many databases, and reports how
many runs and processes there were at once. The second part loads the definitions of that many
targets, and lets all of their schedules tick in one minute; no run is launched.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import psycopg2
import yaml

from vector_backup_pipeline.embedded import EmbeddedServer, start_embedded_server
from vector_backup_pipeline.instance_files import write_instance_files

_DEFINITIONS = "vector_backup_pipeline.definitions"
_LOAD = """
import time, dagster
began = time.process_time()
import vector_backup_pipeline.definitions as loaded
schedules = loaded.defs.get_repository_def().schedule_defs
print(f"{time.process_time() - began:.2f} {len(schedules)}")
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--databases", type=int, default=20)
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--schedules", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if options.databases:
            run_to_the_end(Path(directory) / "runs", options.databases, options.limit)
        if options.schedules:
            load_and_tick(Path(directory) / "ticks", options.schedules)


def run_to_the_end(home: Path, count: int, limit: int) -> None:
    environment = _instance(home, count, limit)
    with start_embedded_server(home / "server") as server:
        for number in range(count):
            environment[f"RAG_{number}_URL"] = _database(server, number)
        began = _due(environment)
        most = Counter[str]()
        with _daemon(home, environment), _instance_of(home) as instance:
            while True:
                runs = instance.get_runs()
                statuses = Counter(run.status.value for run in runs)
                statuses["in progress"] = statuses["STARTING"] + statuses["STARTED"]
                statuses["processes"] = _run_processes(home)
                most |= statuses
                if len(runs) == count and all(run.is_finished for run in runs):
                    break
                time.sleep(0.2)
    seconds = time.monotonic() - began
    sets = len(list((home / "root").glob("rag_*/vector_bak/vector_backup_*.json")))
    print(
        f"{count} databases, limit {limit}: {seconds:.0f} s from the minute to the last run's end"
    )
    print(f"  at the end {dict(statuses)}; at most {dict(most)}; {sets} sets, each in its own root")


def load_and_tick(home: Path, count: int) -> None:
    environment = _instance(home, count, limit=0)
    for _ in range(3):
        loaded = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _LOAD],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, schedules = loaded.stdout.split()
        print(f"{count} targets: {schedules} schedules loaded in {seconds} CPU s after dagster")
    began = _due(environment)
    with _daemon(home, environment), _instance_of(home) as instance:
        first = None
        while (queued := instance.get_runs_count()) < count:
            first = first or (time.monotonic() if queued else None)
            time.sleep(0.2)
        now = time.monotonic()
        processes = _run_processes(home)
    print(
        f"  their ticks: all queued {now - began:.0f} s after the minute, "
        f"{now - (first or now):.0f} s after the first; {processes} processes of runs"
    )


def _instance(home: Path, count: int, limit: int) -> dict[str, str]:
    """The environment of an instance whose targets are due at `DUE`: after the daemon has started,
    also on a slow machine."""
    write_instance_files(home)
    config = home / "dagster.yaml"
    old = "max_concurrent_runs: 10"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, f"max_concurrent_runs: {limit}"))
    due = datetime.now(timezone.utc).replace(second=0, microsecond=0) + timedelta(minutes=3)
    targets = {
        f"rag_{number}": {
            "connection": f"RAG_{number}_URL",
            "tables": ["docs"],
            "compression": "zstd",
            "schedule": f"{due.minute} {due.hour} * * *",
            "retention": {"keep_daily": 7},
        }
        for number in range(count)
    }
    (home / "fleet.yaml").write_text(yaml.safe_dump(targets))
    (home / "root").mkdir()
    own = {
        "DAGSTER_HOME": str(home),
        "VECTOR_BACKUP_ROOT": str(home / "root"),
        "VECTOR_BACKUP_TARGETS": str(home / "fleet.yaml"),
        "DUE": due.isoformat(),
    }
    return dict(os.environ) | own


def _database(server: EmbeddedServer, number: int) -> str:
    """A new database with a small table; returns its connection string."""
    name = f"rag_{number}"
    with closing(psycopg2.connect(server.connection_string())) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    url = server.connection_string(name)
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(
            "CREATE EXTENSION vector; CREATE TABLE docs AS SELECT id, array_fill(random()::real, "
            "ARRAY[384])::vector AS embedding FROM generate_series(1, %s) id",
            [100 + number],
        )
    return url


def _due(environment: dict[str, str]) -> float:
    """The moment at which the schedules are due, monotonic."""
    left = datetime.fromisoformat(environment["DUE"]) - datetime.now(timezone.utc)
    return time.monotonic() + left.total_seconds()


@contextmanager
def _daemon(home: Path, environment: dict[str, str]) -> Iterator[None]:
    with (home / "daemon.log").open("w") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", _DEFINITIONS],
            env=environment,
            stdout=log,
            stderr=log,
            # A background job of a shell ignores SIGINT, and Dagster then SIGTERM too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait(60)


@contextmanager
def _instance_of(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def _run_processes(home: Path) -> int:
    """The processes that execute runs of this instance: Dagster's code server spawns them."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_spawned = b"spawn_main" in (process / "cmdline").read_bytes()
            count += is_spawned and os.fsencode(home) in (process / "environ").read_bytes()
    return count


if __name__ == "__main__":
    main()
