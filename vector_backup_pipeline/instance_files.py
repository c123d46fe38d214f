"""The directory that DAGSTER_HOME names: its files and the instance's tables."""

import textwrap
from importlib.resources import files
from pathlib import Path

import dagster as dg

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.settings import Settings, variable_of

_TEMPLATES = ("dagster.yaml", "workspace.yaml")
_WIDTH = 98


def write_instance_files(directory: Path) -> tuple[list[Path], list[Path]]:
    """Write the instance's files into `directory`, which is created. Returns the files written, and
    those that existed and were kept.

    Raises:
        StorageError: the directory or a file in it cannot be created.
    """
    written, kept = list[Path](), list[Path]()
    templates = files("vector_backup_pipeline") / "templates"
    texts = {name: (templates / name).read_text() for name in _TEMPLATES}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in {**texts, ".env.example": env_example()}.items():
            path = directory / name
            try:
                with path.open("x") as file:
                    file.write(text)
                written.append(path)
            except FileExistsError:
                kept.append(path)
    except OSError as error:
        raise StorageError(
            f"Could not set up {directory}: {error.strerror}.",
            "Let this user write there, or choose another directory.",
        ) from error
    return written, kept


def env_example() -> str:
    """An `.env` file with each setting, its description and its default, commented out."""
    lines = ["# Copy to .env and uncomment what you change. The environment takes precedence.\n"]
    for name, field in Settings.model_fields.items():
        lines += textwrap.wrap(
            str(field.description), _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        lines.append(f"# {variable_of(name)}={setting_text(field.default)}\n")
    return "\n".join(lines)


def setting_text(value: object) -> str:
    """A default as a variable spells it; nothing for None."""
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def create_instance_tables(directory: Path) -> None:
    """Create the tables of the instance in `directory`. Without them, the webserver and the daemon
    would create the same tables when they are first started together, and one of them may fail."""
    with dg.DagsterInstance.from_config(str(directory)) as instance:
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=1)
