"""`vector-backup demo`."""

import shlex
import shutil
import sys
from pathlib import Path

import click

from vector_backup_pipeline.cli.operations import run_operation
from vector_backup_pipeline.cli.showing import DONE
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.parameters.verify import VerifyParameters


@click.command("demo")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where the demo keeps its server, backups and Dagster instance, such as /tmp/demo.",
)
@click.option(
    "--ui",
    is_flag=True,
    help="Open Dagster's UI and the API on the demo's database, until Ctrl-C. Default: off.",
)
@click.option(
    "--port", type=int, default=3000, show_default=True, help="Port of the UI, such as 3001."
)
@click.option(
    "--api-port", type=int, default=8084, show_default=True, help="Port of the API, such as 8085."
)
def command(directory: Path, ui: bool, port: int, api_port: int) -> int:
    """Back up a real PostgreSQL with LangChain's tables, and test the restore in another server.

    \b
    Examples:
      vector-backup demo
      vector-backup demo --ui --port 3000
    """
    from vector_backup_pipeline import demo as demonstration

    if ui:
        demonstration.check_ports(port, api_port)
    with demonstration.running(directory) as running:
        if ui:
            return running.open_ui(port, api_port)
        code = run_operation(BackupParameters(), as_json=False)
        running.show_files()
        if code == DONE:
            click.echo("\nRestore test: restoring the set into a server of its own\n")
            parameters = VerifyParameters(timestamp=LATEST, drill=True)
            code = run_operation(parameters, as_json=False)
        click.echo(
            "\nList these backups:           "
            f"VECTOR_BACKUP_ROOT={shlex.quote(str(running.backups))} {_this_command()} list\n"
            "See the runs in Dagster's UI: make ui"
        )
        return code


def _this_command() -> str:
    """The command as the caller can type it: a virtual environment need not be on the path."""
    beside = Path(sys.executable).with_name("vector-backup")
    is_on_path = shutil.which("vector-backup") == str(beside)
    return "vector-backup" if is_on_path or not beside.exists() else shlex.quote(str(beside))
