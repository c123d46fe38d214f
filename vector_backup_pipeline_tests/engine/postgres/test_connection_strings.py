"""Connection strings: allowed contents, defaults from this machine, and secrecy.

Some strings come from callers over the network, who must not use the worker's own settings.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import BackupError, DatabaseError, InvalidParams
from vector_backup_pipeline.engine.postgres.connection import connect
from vector_backup_pipeline.engine.postgres.connection_strings import (
    ConnectionSettings,
    check_remote_caller,
)
from vector_backup_pipeline.engine.secrets import SecretText, redact
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_postgres import Database, tcp_url

_OURS = "the installation's"
_FILES = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")


def _from_caller(text: str) -> ConnectionSettings:
    return ConnectionSettings.from_caller(SecretText(text))


def _from_installation(text: str) -> ConnectionSettings:
    return ConnectionSettings.from_installation(SecretText(text), "the test")


def _check(text: str) -> None:
    check_remote_caller(SecretText(text))


def _assert_refused(check: Callable[[str], object], text: str, match: str) -> None:
    with pytest.raises(InvalidParams, match=match) as refusal:
        check(text)
    assert refusal.value.error_type == "INVALID_PARAMS"
    shown = all_that_it_tells(refusal.value)
    assert "hunter2" not in shown
    assert "/run/" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@host/db?nonsense=1",
        "postgresql+psycopg://u:hunter2@host/db?schema=hunter2",
        "postgresql://u:hunter2@h/d?Host=/run/x",
        "postgresql://u:hunter2%zz@host/db",
        "postgresql://u:pass@hunter2@host/db",
        "postgresql://u:pass/hunter2@host/db",
        "postgresql://host/db?password=pass&hunter2=x",
        "host=h password=pass hunter2 user=u",
        "mysql://u:hunter2@host/db",
        "sealed:hunter2",
        "postgresql://u:hunter2\0@host/db",
        "postgresql://u:hunter2\ud800@host/db",
        "hunter2",
        "  ",
    ],
)
def test_a_malformed_string_is_refused_and_never_shown(text: str) -> None:
    _assert_refused(_check, text, r"^db_connection is malformed.*postgresql://user")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("postgresql://u:hunter2@host:hunter2/db", "has a port that is not"),
        ("postgresql://u:hunter2@host:99999/db", "has a port that is not"),
        ("postgresql://u:hunter2@host:0/db", "has a port that is not"),
        ("postgresql://u:hunter2@host/db?sslmode=no-verify", "sslmode. Allowed: .*verify-full"),
        ("postgresql://u:hunter2@host/db?target_session_attrs=hunter2", "target_session_attrs"),
        ("postgresql://u:hunter2@host/db?connect_timeout=hunter2", "connect_timeout.*a number"),
        ("service=ours password=hunter2", "names a service"),
    ],
)
def test_an_invalid_option_is_named_without_its_value(text: str, named: str) -> None:
    _assert_refused(_from_caller, text, named)


def test_passwords_with_reserved_characters_and_sqlalchemys_schemes_are_accepted() -> None:
    for scheme in ("postgresql", "postgresql+psycopg", "postgres+psycopg2", "postgresql+asyncpg"):
        settings = _from_caller(f"{scheme}://u:p%40ss%2Fword@host:5433/db")
        options = ("host", "port", "user", "dbname", "password")
        assert [settings.parameters[name] for name in options] == [
            *("host", "5433", "u", "db", "p@ss/word")
        ]
    assert redact("as p@ss/word or as p%40ss%2Fword", settings.secrets) == "as *** or as ***"
    assert "p@ss" not in repr(settings)


def test_an_error_of_the_server_that_repeats_the_password_is_redacted(database: Database) -> None:
    database.create_role('"hunter2"')
    with pytest.raises(DatabaseError) as refusal:
        # The server names the user, whose name is the password.
        connect(_from_caller(database.url_as("hunter2", "hunter2")))
    assert "hunter2" not in all_that_it_tells(refusal.value)


@pytest.fixture
def url_without_password(database: Database) -> str:
    database.run("DROP ROLE IF EXISTS holder")
    database.create_role("holder", _OURS)
    return tcp_url(database.server, database.name, "holder")


@pytest.mark.parametrize("way", ["variable", "password file", "home directory", "service"])
def test_a_callers_string_gets_no_password_of_ours_but_the_installations_does(
    database: Database,
    url_without_password: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
) -> None:
    password_file = tmp_path / ".pgpass"
    password_file.write_text(f"*:*:*:*:{_OURS}\n")
    password_file.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(
        f"[ours]\nhost=127.0.0.1\nport={database.server.port}\nuser=holder\n"
        f"password={_OURS}\ndbname={database.name}\n"
    )
    variables = {
        "variable": {"PGPASSWORD": _OURS},
        "password file": {"PGPASSFILE": str(password_file)},
        "home directory": {"HOME": str(tmp_path)},
        "service": {"PGSERVICEFILE": str(services), "PGSERVICE": "ours"},
    }
    with monkeypatch.context() as patch:
        for name, value in variables[way].items():
            patch.setenv(name, value)
        # An empty option counts as absent; libpq would look for the default file.
        for text in (url_without_password, url_without_password + "?passfile="):
            with pytest.raises(DatabaseError, match="no password supplied"):
                connect(_from_caller(text))
            if way != "password file":
                connect(_from_installation(text)).close()


def test_a_callers_string_takes_no_host_user_service_or_options_of_ours(
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
        "PGSERVICE": "nowhere",
    }
    with monkeypatch.context() as patch:
        for variable, value in ours.items():
            patch.setenv(variable, value)
        connection = connect(_from_caller(url))
        with pytest.raises(BackupError):
            connect(_from_installation(url))
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('work_mem') <> '77kB'")
        assert cursor.fetchone() == ("caller", True)
    assert connection.encoding == "UTF8"
    connection.close()


@pytest.mark.parametrize("empty", ["passfile", "host", "sslcert", "require_auth", "dbname"])
def test_an_empty_option_of_a_caller_counts_as_absent(empty: str) -> None:
    text = "hostaddr=192.0.2.1 user=u"

    assert _from_caller(f"{text} {empty}=''").parameters == _from_caller(text).parameters


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p@db.example.com:6432/d?sslmode=verify-full&sslrootcert=system",
        "postgresql://u@one,two:5433,three/d?target_session_attrs=read-write",
        "postgresql://u@/d?host=db.example.com",
        "postgresql://?hostaddr=192.0.2.1&user=u",
        "host=a,b hostaddr=192.0.2.1, user=u",
        "host = db.example.com\n options='-c statement_timeout=5s'",
        "host=h sslmode=require require_auth=!gss,!sspi gssencmode=disable gssdelegation=0",
        "host=h passfile='' sslcert='' require_auth=''",
    ],
)
def test_a_remote_caller_may_name_a_host_in_either_notation(text: str) -> None:
    _check(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@/d",
        "postgresql://u:hunter2@%2frun%2fpostgresql/d",
        "postgresql://u:hunter2@%40abstract/d",
        "postgresql://u:hunter2@/d?host=/run/postgresql",
        "postgresql://u:hunter2@db.example.com/d?host=%2Frun%2Fpostgresql",
        "postgresql://u:hunter2@,db.example.com/d",
        "postgresql://u:hunter2@db.example.com%2C%2Frun%2Fpostgresql/d",
        "dbname=d user=u password=hunter2",
        "host='/run/postgresql' password=hunter2",
        r"host=\/run/postgresql password=hunter2",
        "host=db.example.com host=/run/postgresql password=hunter2",
        "hostaddr=192.0.2.1, password=hunter2",
    ],
)
def test_a_socket_of_the_worker_is_refused_however_it_is_spelled(text: str) -> None:
    _assert_refused(_check, text, "must name the host")


@pytest.mark.parametrize("option", [*_FILES, "service"])
@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@h/d?sslmode=require&{encoded}=%2Frun%2Fx",
        "host=h password=hunter2\t{option} = '/run/x'",
        r"host=h password=hunter2 {option}=\/run\/x",
    ],
)
def test_a_file_or_service_of_the_worker_is_refused_and_named(option: str, text: str) -> None:
    encoded = f"%{ord(option[0]):02x}{option[1:]}"
    _assert_refused(_check, text.format(option=option, encoded=encoded), f"has {option}, which")


@pytest.mark.parametrize(
    "option",
    [
        "sslrootcert=./system",
        "gssencmode=prefer",
        "gssdelegation=1",
        "require_auth=scram-sha-256,gss",
        "require_auth=!password",
    ],
)
def test_the_workers_kerberos_ticket_and_certificates_are_not_shown_to_strangers(
    option: str,
) -> None:
    name = option.partition("=")[0]
    _assert_refused(_check, f"host=h password=hunter2 {option}", f"has {name}, which")


def test_a_connection_string_as_the_databases_name_leads_nowhere_else(database: Database) -> None:
    text = f"host=127.0.0.1 port={database.server.port} dbname='host=/run/x' user=u"
    with pytest.raises(DatabaseError, match="refused the connection"):
        connect(_from_caller(text))
