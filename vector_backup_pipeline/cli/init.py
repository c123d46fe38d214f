"""`vector-backup init`."""

import shlex
from pathlib import Path

import click

from vector_backup_pipeline.cli.showing import DONE


@click.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
def command(directory: Path) -> int:
    """Set up a Dagster instance in DIRECTORY (default: the current directory).

    Writes dagster.yaml, workspace.yaml and .env.example, and creates the instance's tables. Files
    that exist are kept.

    \b
    Examples:
      vector-backup init /var/lib/dagster
    """
    from vector_backup_pipeline.instance_files import create_instance_tables, write_instance_files

    written, kept = write_instance_files(directory)
    create_instance_tables(directory)
    for path in written:
        click.echo(f"  written  {path}")
    for path in kept:
        click.echo(f"  kept     {path}")
    click.echo(
        "\nCopy .env.example to .env and set the database and the root of the backups. Then:\n"
        f"\n  export DAGSTER_HOME={shlex.quote(str(directory.absolute()))}\n  cd $DAGSTER_HOME\n"
        "  vector-backup check\n"
        "  dagster-webserver -w workspace.yaml &\n"
        "  dagster-daemon run -w workspace.yaml"
    )
    return DONE
