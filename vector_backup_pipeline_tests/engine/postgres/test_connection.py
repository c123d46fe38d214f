"""Connection strings: what they may take from their surroundings, and that they stay secret."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest

from vector_backup_pipeline.engine.errors import BackupError, DatabaseError, InvalidParams
from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    connect,
    translated,
)
from vector_backup_pipeline.engine.secrets import SecretText, redact
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_postgres import Database

_SERVICE = "[ours]\nhost={host}\nport={port}\nuser={user}\npassword={password}\ndbname={dbname}\n"


def _from_caller(text: str) -> ConnectionSettings:
    return ConnectionSettings.from_caller(SecretText(text))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:hunter2@host:99999/db",
        "postgresql://u:hunter2@host:0/db",
        "postgresql://u:hunter2@host/db?nonsense=1",
        "postgresql://u:hunter2%zz@host/db",
        "postgresql://u:hunter2@[::1/db",
        "postgresql://u:pass@hunter2@host/db",
        "postgresql://u:pass/hunter2@host/db",
        "postgresql://u:12/hunter2@host/db",
        "host=h password=pass hunter2 user=u",
        "host=h password='hunter2",
        "mysql://u:hunter2@host/db",
        "postgresql://u:hunter2\0@host/db",
        "postgresql://u:hunter2\ud800@host/db",
        "service=ours password=hunter2",
        "postgresql://u:hunter2@host/db?sslmode=maybe",
        "postgresql://u:hunter2@host/db?target_session_attrs=any-old",
        "hunter2",
        "  ",
    ],
)
def test_a_malformed_string_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(InvalidParams) as refusal:
        _from_caller(text)
    assert "hunter2" not in all_that_it_tells(refusal.value)
    assert refusal.value.error_type == "INVALID_PARAMS"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("postgresql://u:hunter2@host/db?pgbouncer=true", "keyword pgbouncer"),
        ("postgresql+psycopg://u:hunter2@host/db?schema=hunter2", "keyword schema"),
        ("postgresql://u:pass?hunter2=x@host/db?foo=1", "keyword foo"),
        ("host=h foo=1 password=hunter2", "keyword foo"),
        ("host=h password=hunter2 pgbouncer=true", "keyword pgbouncer"),
        ("postgresql://u:hunter2@host/db?sslmode=no-verify", "sslmode; write .*verify-full"),
        ("postgresql://u:hunter2@host/db?connect_timeout=hunter2", "connect_timeout"),
        ("postgresql://u:hunter2@host:port/db", "port"),
        # What follows may be a piece of the password.
        ("host=h password=pass hunter2=x user=u", "malformed"),
        ("postgresql://host/db?password=pass&hunter2=x", "malformed"),
    ],
)
def test_what_is_wrong_with_a_string_is_named_without_its_value(text: str, named: str) -> None:
    with pytest.raises(InvalidParams, match=named) as refusal:
        _from_caller(text)
    assert "hunter2" not in all_that_it_tells(refusal.value)


@pytest.mark.parametrize(
    "scheme", ["postgresql+psycopg", "postgres+psycopg2", "postgresql+asyncpg"]
)
def test_a_string_of_sqlalchemy_is_taken(scheme: str) -> None:
    settings = _from_caller(f"{scheme}://u:p@host:5433/db")
    taken = {key: settings.parameters[key] for key in ("host", "port", "user", "dbname")}
    assert taken == {"host": "host", "port": "5433", "user": "u", "dbname": "db"}


def test_a_password_with_reserved_characters_may_be_percent_encoded() -> None:
    settings = _from_caller("postgresql://u:p%40ss%2Fword@host/db")
    assert settings.parameters["password"] == "p@ss/word"
    assert settings.parameters["host"] == "host"


def test_a_password_is_redacted_as_it_is_and_as_it_was_encoded() -> None:
    settings = _from_caller("postgresql://u:p%40ss%2Fword@host/db")
    told = redact("as p@ss/word or as p%40ss%2Fword", settings.secrets)
    assert told == "as *** or as ***"
    assert "p@ss" not in repr(settings)


def test_an_error_of_the_server_that_repeats_the_password_is_redacted(database: Database) -> None:
    database.create_role('"hunter2"')
    with pytest.raises(DatabaseError) as refusal:
        # The server names the user, who is called like the password.
        connect(_from_caller(database.url_as("hunter2", "hunter2")))
    assert "hunter2" not in all_that_it_tells(refusal.value)


@pytest.fixture
def url_without_password(database: Database) -> str:
    database.run("DROP ROLE IF EXISTS holder")
    database.create_role("holder", "the installation's")
    return database.server.connection_string(database.name, user="holder", tcp=True)


def _by_variable(_: Database, monkeypatch: pytest.MonkeyPatch, __: Path) -> None:
    monkeypatch.setenv("PGPASSWORD", "the installation's")


def _by_password_file(_: Database, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(_password_file(folder / "passwords")))


def _by_home_directory(_: Database, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    _password_file(folder / ".pgpass")
    monkeypatch.setenv("HOME", str(folder))


def _by_service(database: Database, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    file = folder / "services"
    file.write_text(
        _SERVICE.format(
            host="127.0.0.1",
            port=database.server.port,
            user="holder",
            password="the installation's",
            dbname=database.name,
        )
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "ours")


def _password_file(path: Path) -> Path:
    path.write_text("*:*:*:*:the installation's\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("give", [_by_variable, _by_password_file, _by_home_directory, _by_service])
def test_a_callers_string_gets_no_password_of_ours_but_the_installations_does(
    database: Database,
    url_without_password: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    give: Callable[[Database, pytest.MonkeyPatch, Path], None],
) -> None:
    installation = ConnectionSettings.from_installation
    with monkeypatch.context() as patch:
        give(database, patch, tmp_path)
        with pytest.raises(DatabaseError, match="no password supplied"):
            connect(_from_caller(url_without_password))
        connect(installation(SecretText(url_without_password), "the test")).close()


def test_a_callers_string_does_not_mind_a_service_that_is_not_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PGSERVICE", "nowhere")
        connect(_from_caller(database.url)).close()
        with pytest.raises(BackupError):
            connect(ConnectionSettings.from_installation(SecretText(database.url), "the test"))


def test_a_callers_string_takes_no_host_user_or_options_of_ours(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("DROP ROLE IF EXISTS caller")
    url = database.create_role("caller")
    ours = {
        "PGHOST": "nowhere.invalid",
        "PGPORT": "1",
        "PGUSER": "postgres",
        "PGDATABASE": "nowhere",
        "PGOPTIONS": "-c work_mem=77kB",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nowhere",
        "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREAUTH": "none",
        "PGCLIENTENCODING": "LATIN1",
    }
    with monkeypatch.context() as patch:
        for variable, value in ours.items():
            patch.setenv(variable, value)
        connection = connect(_from_caller(url))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting('work_mem') <> '77kB'")
            assert cursor.fetchone() == ("caller", True)
        assert connection.encoding == "UTF8"
    finally:
        connection.close()


def test_without_a_string_libpqs_own_environment_leads_to_the_server(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = psycopg2.extensions.parse_dsn(database.url)
    for option, variable in {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "dbname": "PGDATABASE",
    }.items():
        monkeypatch.setenv(variable, given[option])
    connection = connect(ConnectionSettings.from_fields({}))
    assert connection.info.dbname == database.name
    connection.close()


@pytest.mark.parametrize(("source", "is_shared_memory"), [("dsm_impl.c", True), ("md.c", False)])
def test_a_lack_of_shared_memory_is_told_from_a_full_disk(
    source: str, *, is_shared_memory: bool
) -> None:
    class NoSpace(psycopg2.errors.DiskFull):
        pgcode = "53100"
        diag = SimpleNamespace(  # type: ignore[assignment]
            source_file=source, message_detail=None, context=None
        )

    error = translated(NoSpace("could not resize: No space left on device"), "build", ())

    assert "No space left on device (SQLSTATE 53100)" in error.message
    assert ("--max-parallel-maintenance-workers 0" in error.message) is is_shared_memory
