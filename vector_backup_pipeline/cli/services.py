"""`vector-backup init` and `serve`."""

import importlib.util
from pathlib import Path

import click

from vector_backup_pipeline.cli.showing import DONE, FAILED
from vector_backup_pipeline.engine.errors import MissingExtra
from vector_backup_pipeline.instance_files import (
    DEPLOYMENTS,
    create_instance_tables,
    next_steps,
    write_instance_files,
)
from vector_backup_pipeline.settings import load_settings

_API_PACKAGES = ("fastapi", "fastapi_offline", "uvicorn", "httpx", "cryptography")


def check_packages(user: str, extra: str, *names: str) -> None:
    """Raise `MissingExtra` unless these packages of an extra are installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{user} needs packages that are not installed: {', '.join(missing)}.", extra
        )


@click.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--for",
    "deployment",
    type=click.Choice(list(DEPLOYMENTS)),
    default="local",
    show_default=True,
    help="Where the pipeline runs: on this machine (local), as services of systemd, in containers "
    "with Docker Compose, or in Kubernetes.",
)
def init_command(directory: Path, deployment: str) -> int:
    """Set up a Dagster instance in DIRECTORY.

    Writes dagster.yaml, workspace.yaml and .env.example, and creates the instance's tables. With
    --for, writes the files of another deployment. Existing files are not overwritten. The default
    is the current directory.

    \b
    Examples:
      vector-backup init /var/lib/dagster
      vector-backup init /var/lib/vector-backup --for systemd
    """
    files = write_instance_files(directory, deployment)
    if deployment == "local":
        create_instance_tables(directory)
    for path, is_new in files.items():
        click.echo(f"  {'written' if is_new else 'kept   '}  {path}")
    click.echo("\n" + next_steps(directory, deployment))
    return DONE


@click.command("serve")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. An address that other machines can reach, such as 0.0.0.0, "
    "requires VECTOR_BACKUP_API_TOKEN.",
)
@click.option(
    "--port",
    # asyncio accepts a higher number, and then listens on another port.
    type=click.IntRange(1, 65535),
    default=8084,
    show_default=True,
    help="Port to listen on, such as 8084.",
)
@click.option(
    "--no-auth",
    is_flag=True,
    help="Accept calls from other machines without a token. Default: off.",
)
def serve_command(host: str, port: int, no_auth: bool) -> int:
    """Serve the REST API.

    API calls start runs through Dagster's webserver (VECTOR_BACKUP_DAGSTER_URL).

    \b
    Examples:
      vector-backup serve
      VECTOR_BACKUP_API_TOKEN=… vector-backup serve --host 0.0.0.0
    """
    check_packages("The API", "api", *_API_PACKAGES)
    from vector_backup_pipeline.api.server import serve

    try:
        return DONE if serve(load_settings(), host=host, port=port, no_auth=no_auth) else FAILED
    except KeyboardInterrupt:
        return DONE
