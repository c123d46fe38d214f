"""What `vector-backup init` makes: the files of a deployment, and the tables of an instance."""

import shlex
import textwrap
from pathlib import Path

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.settings import Settings, variable_of

_WIDTH = 98
_TEMPLATES = Path(__file__).with_name("templates")
# How the pipeline is run, and the folders of templates that it needs.
DEPLOYMENTS = {
    "local": ("local",),
    "systemd": ("systemd", "monitoring"),
    "compose": ("compose", "image", "monitoring"),
    "kubernetes": ("kubernetes", "image", "monitoring"),
}


def write_instance_files(directory: Path, deployment: str = "local") -> dict[Path, bool]:
    """Write the files of a deployment into `directory`, which is created. Returns each file with
    whether it was written; one that existed is kept.

    Raises:
        StorageError: the directory or a file in it cannot be created.
    """
    files: dict[Path, bool] = {}
    try:
        for name, text in _files_of(deployment).items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("x") as file:
                    file.write(text)
                files[path] = True
            except FileExistsError:
                files[path] = False
    except OSError as error:
        raise StorageError(
            f"Could not set up {directory}: {error.strerror}.",
            "Let this user write there, or choose another directory.",
        ) from error
    return files


def _files_of(deployment: str) -> dict[str, str]:
    """The files of a deployment: name and content."""
    texts = {
        str(path.relative_to(_TEMPLATES / folder)): path.read_text("utf-8")
        for folder in DEPLOYMENTS[deployment]
        for path in sorted((_TEMPLATES / folder).rglob("*"))
        if path.is_file()
    }
    if deployment != "kubernetes":
        # Dagster's chart writes the instance's configuration from its values.
        texts["dagster.yaml"] = _template("dagster.yaml")
        texts[".env.example"] = env_example()
    if deployment in ("systemd", "compose"):
        texts["dagster.yaml"] += _template("storage.yaml")
    if deployment != "local":
        texts["with-secrets.sh"] = _template("with-secrets.sh")
    return texts


def next_steps(directory: Path, deployment: str) -> str:
    """What to do with the files in `directory`."""
    home = shlex.quote(str(directory.absolute()))
    return _template(f"next_steps/{deployment}.txt").replace("{directory}", home)


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


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
    import dagster as dg

    with dg.DagsterInstance.from_config(str(directory)) as instance:
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=1)
