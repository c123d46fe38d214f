"""Arguments of commands become parameters, and errors name flags instead of keys."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from vector_backup_pipeline.cli import commands, load_command
from vector_backup_pipeline.cli.options import (
    as_environment_reference,
    parameter_options,
)
from vector_backup_pipeline.cli.showing import message_of
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.restore import RestoreParameters

LATEST = ("--timestamp", "latest")


def run_config(model: type[Parameters], *words: str) -> dict[str, Any]:
    """The run config from these arguments."""
    read: list[Parameters] = []

    @click.command()
    @parameter_options(model)
    def command(parameters: Parameters) -> int:
        read.append(parameters)
        return 0

    CliRunner().invoke(command, words, catch_exceptions=False)
    return read[0].as_run_config(as_environment_reference)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        ((), {}),
        (("--tables", 'a"b, "c,d" ,e."f,""g"'), {"tables": ['a"b', '"c,d"', 'e."f,""g"']}),
        (("--task-id", ""), {}),
    ],
)
def test_flags_become_parameters(words: tuple[str, ...], config: dict[str, Any]) -> None:
    assert run_config(BackupParameters, *words) == config


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (("--collections", 'faq,"a,b",q"x'), {"collections": ["faq", "a,b", 'q"x']}),
        (("--rename", "a=b", "--rename", "c=e.d"), {"rename": {"a": "b", "c": "e.d"}}),
        (
            (
                *("--backup-path", "data/vector_bak", "--tables", "a,b", "--workers", "1"),
                *("--on-conflict", "replace", "--fire-triggers", "--probes", "0"),
                *("--maintenance-work-mem", "64MB", "--progress-every", "10"),
                *("--max-parallel-maintenance-workers", "0"),
            ),
            {
                "backup_path": "data/vector_bak",
                "tables": ["a", "b"],
                "workers": 1,
                "on_conflict": "replace",
                "fire_triggers": True,
                "probes": 0,
                "maintenance_work_mem": "64MB",
                "progress_every": 10,
                "max_parallel_maintenance_workers": 0,
            },
        ),
    ],
)
def test_flags_of_a_restore_become_parameters(
    words: tuple[str, ...], config: dict[str, Any]
) -> None:
    assert run_config(RestoreParameters, *LATEST, *words) == {"timestamp": "latest", **config}


def test_a_connection_string_becomes_the_name_of_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_RUN_CONNECTION", "")
    config = run_config(BackupParameters, "--db-connection", "postgresql://u:hunter2@h/d")
    assert config == {"db_connection": {"env": "VECTOR_BACKUP_RUN_CONNECTION"}}


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("prune", ("--keep-last", "-1"), "--keep-last must be greater than or equal to 0."),
        ("backup", ("--tables", 'docs,"x'), "--tables is malformed."),
        ("backup", ("--workers", "65", "--batch-size", "0"), "--workers must be less than"),
        ("restore", (), "SET is missing."),
        ("restore", (*LATEST, "x"), "SET and --timestamp exclude each other."),
        ("diff", ("x", "latest"), "SET_A is 'x', which is not valid"),
        ("restore", (*LATEST, "--rename", "a"), "--rename is 'a'; write OLD=NEW"),
        ("restore", (*LATEST, "--fire-triggers", "--disable-triggers"), "--fire-triggers and --"),
        ("verify", ("--scratch-connection", "x"), "--scratch-connection is malformed"),
        ("adopt", (), "--timestamp and --all are both missing."),
    ],
)
def test_an_error_names_the_flag(command: str, words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(commands, [command, *words])

    assert isinstance(result.exception, BackupError)
    text = message_of(result.exception, load_command(command))
    assert text.startswith(message)


def test_an_error_names_a_flag_that_differs_from_its_key() -> None:
    with pytest.raises(BackupError) as refusal:
        BackupParameters(truncate_vector_tables=True).completed(
            {"tables": ("docs",), "truncate_tables": ("other",)}
        )

    text = message_of(refusal.value, load_command("backup"))
    assert text.startswith("--truncate would empty the table 'other'")
