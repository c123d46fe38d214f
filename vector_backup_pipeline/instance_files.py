"""The directory that DAGSTER_HOME names: its files and the instance's tables."""

from importlib.resources import files
from pathlib import Path

import dagster as dg

TEMPLATES = ("dagster.yaml", "workspace.yaml")


def write_instance_files(directory: Path) -> tuple[list[Path], list[Path]]:
    """Write the templates into `directory`, which is created. Returns the files written, and those
    that existed and were kept."""
    directory.mkdir(parents=True, exist_ok=True)
    written, kept = list[Path](), list[Path]()
    templates = files("vector_backup_pipeline") / "templates"
    for name in TEMPLATES:
        path = directory / name
        try:
            with path.open("x") as file:
                file.write((templates / name).read_text())
            written.append(path)
        except FileExistsError:
            kept.append(path)
    return written, kept


def create_instance_tables(directory: Path) -> None:
    """Create the tables of the instance in `directory`. Without them, the webserver and the daemon
    would create the same tables when they are first started together, and one of them may fail."""
    with dg.DagsterInstance.from_config(str(directory)) as instance:
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=1)
