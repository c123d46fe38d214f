"""The connection of a run; no secret reaches Dagster's storage."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.postgres.connection import connect
from vector_backup_pipeline.resources import PostgresResource
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, load_settings
from vector_backup_pipeline_tests.fix_dagster import JobRunner
from vector_backup_pipeline_tests.fix_postgres import Database

PASSWORD = "geheim-4711-pass"


def _parameters(
    resource: PostgresResource | None = None, db_connection: str | None = None
) -> dict[str, str]:
    secret = None if db_connection is None else SecretStr(db_connection)
    settings = (resource or PostgresResource()).connection_settings(load_settings(), secret)
    return dict(settings.parameters)


def test_a_runs_own_connection_precedes_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "postgresql://env@env/env")
    monkeypatch.setenv("OTHER_URL", "postgresql://env@other/env")

    assert _parameters()["host"] == "env"
    assert _parameters(PostgresResource(connection_variable="OTHER_URL"))["host"] == "other"
    assert _parameters(db_connection="postgresql://u@own/d")["host"] == "own"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_connection_string_libpqs_environment_applies(
    value: str | None, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv(DATABASE_URL_VARIABLE, value)
    monkeypatch.setenv("PGSERVICEFILE", "/dev/null")
    with langchain.session() as session:
        info = session.info
        monkeypatch.setenv("PGHOST", info.host)
        monkeypatch.setenv("PGPORT", str(info.port))
        monkeypatch.setenv("PGUSER", info.user)
    monkeypatch.setenv("PGDATABASE", langchain.name)

    with closing(connect(PostgresResource().connection_settings(load_settings(), None))) as opened:
        assert opened.info.dbname == langchain.name


def test_an_error_names_the_variable_of_a_malformed_string_without_the_string(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, f"postgresql//u:{PASSWORD}@h/d")

    with pytest.raises(InvalidParams) as raised:
        _parameters()
    assert DATABASE_URL_VARIABLE in raised.value.message
    assert PASSWORD not in raised.value.message


@pytest.fixture
def secret_url(langchain: Database) -> str:
    role = f"keeper_{langchain.name}"
    langchain.run(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    return langchain.url_as(role, PASSWORD)


@pytest.mark.parametrize(
    ("way", "spoil", "error_type"),
    [
        ("variable", ("", ""), "TABLE_NOT_FOUND"),
        ("db_connection", (PASSWORD, PASSWORD + "x"), "DATABASE_ERROR"),
        ("db_connection", ("postgresql://", "postgresql//"), "INVALID_PARAMS"),
    ],
)
def test_the_password_is_nowhere_in_dagsters_storage(
    way: str,
    spoil: tuple[str, str],
    error_type: str,
    secret_url: str,
    dagster_home: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = re.sub(*spoil, secret_url) if spoil[0] else secret_url
    config: dict[str, Any] = {"tables": ["langchain_pg_collection", "nope"]}
    if way == "variable":
        monkeypatch.setenv(DATABASE_URL_VARIABLE, url)
    else:
        monkeypatch.setenv("ONE_RUNS_DATABASE", url)
        config["db_connection"] = {"env": "ONE_RUNS_DATABASE"}
    with dg.DagsterInstance.get() as instance:
        done = JobRunner(instance, root)(config)

    assert done.outcome.error_type == error_type
    assert _files_with(dagster_home, PASSWORD) == []
    assert _files_with(root, PASSWORD) == []


def _files_with(directory: Path, secret: str) -> list[str]:
    """The files that contain the secret, plain or percent-encoded."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if secret.encode() in path.read_bytes()]
