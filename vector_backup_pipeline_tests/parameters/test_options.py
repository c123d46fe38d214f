"""What is typed at the terminal, as the models take it; and their errors, with flags for keys."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from vector_backup_pipeline.cli import commands
from vector_backup_pipeline.cli.options import (
    at_terminal,
    hand_over,
    parameter_options,
    read_parameters,
)
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.restore import RestoreParameters


def _typed(model: type[Parameters], *words: str) -> dict[str, Any]:
    """The run config that these words give."""
    read: list[Parameters] = []

    @click.command()
    @parameter_options(model)
    def command(**options: Any) -> None:
        read.append(read_parameters(model, options))

    CliRunner().invoke(command, words, catch_exceptions=False)
    return read[0].as_run_config(hand_over)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        ((), {}),
        (("--no-backup",), {"backup_vector_tables": False}),
        (("--truncate", "--workers", "3"), {"truncate_vector_tables": True, "workers": 3}),
        (("--tables", 'q"uote'), {"tables": ['q"uote']}),
        (("--tables", 'a"b, "c,d" ,e."f,""g"'), {"tables": ['a"b', '"c,d"', 'e."f,""g"']}),
        (("--task-id", ""), {"task_id": None}),
    ],
)
def test_options_give_the_parameters_that_were_typed(
    words: tuple[str, ...], config: dict[str, Any]
) -> None:
    assert _typed(BackupParameters, *words) == config


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (("--collections", 'faq,"a,b",q"x'), {"collections": ["faq", "a,b", 'q"x']}),
        (
            ("--rename", "a=b", "--rename", '"c=d"=e."f=g"'),
            {"rename": {"a": "b", '"c=d"': 'e."f=g"'}},
        ),
    ],
)
def test_quotes_protect_commas_and_equals_signs(
    words: tuple[str, ...], config: dict[str, Any]
) -> None:
    typed = _typed(RestoreParameters, "--timestamp", "latest", *words)
    assert typed == {"timestamp": "latest", **config}


def test_a_connection_string_is_run_config_by_the_name_of_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_RUN_CONNECTION", "")
    config = _typed(BackupParameters, "--db-connection", "postgresql://u:hunter2@h/d")
    assert config == {"db_connection": {"env": "VECTOR_BACKUP_RUN_CONNECTION"}}


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("prune", ("--keep-last", "-1"), "--keep-last is -1; it must be from 0 to 1000000."),
        ("backup", ("--tables", "docs,docs"), "--tables names the table 'docs' twice"),
        ("backup", ("--tables", 'docs,"x'), "--tables holds a table name that can't be read"),
        (
            "backup",
            ("--workers", "65", "--batch-size", "0"),
            "--workers is 65; it must be from 1 to 64. --batch-size is 0; it must be from 1 to",
        ),
        ("restore", (), "--timestamp is missing."),
        ("restore", ("--timestamp", "latest", "--rename", "a"), "--rename is 'a'; write OLD=NEW"),
        (
            "restore",
            ("--timestamp", "latest", "--collections", '"a'),
            "--collections can't be split",
        ),
        ("verify", ("--scratch-connection", "x"), "--scratch-connection is malformed."),
        ("adopt", (), "--timestamp and --all are both missing."),
    ],
)
def test_an_error_names_the_flag(command: str, words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(commands, [command, *words])

    assert isinstance(result.exception, BackupError)
    told = at_terminal(result.exception.problems, commands.commands[command])
    assert told.startswith(message)


def test_an_error_names_a_flag_that_is_not_called_like_its_key() -> None:
    with pytest.raises(BackupError) as refusal:
        BackupParameters(truncate_vector_tables=True).with_tables(("docs",), ("other",))

    assert refusal.value.message.startswith("truncate_vector_tables would empty the table 'other'")
    told = at_terminal(refusal.value.problems, commands.commands["backup"])
    assert told.startswith("--truncate would empty the table 'other'")
