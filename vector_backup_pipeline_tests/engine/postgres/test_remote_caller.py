"""What a caller over the network may say in a connection string: nothing of the worker's own."""

from pathlib import Path

import psycopg2
import pytest

from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams
from vector_backup_pipeline.engine.postgres.connection import (
    connect,
)
from vector_backup_pipeline.engine.postgres.connection_strings import (
    ConnectionSettings,
    check_remote_caller,
)
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_postgres import Database

PASSWORD = "hunter2-geheim"
_FILES = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")


def _check(text: str) -> None:
    check_remote_caller(SecretText(text))


def _refuse(text: str, match: str) -> None:
    with pytest.raises(InvalidParams, match=match) as refusal:
        _check(text)
    told = all_that_it_tells(refusal.value)
    assert PASSWORD not in told
    assert text not in told
    # Neither is a part of it that names a place.
    assert "/run/" not in told


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p@db.example.com/d",
        "postgresql://u:p@db.example.com:6432/d?sslmode=verify-full&sslrootcert=system",
        "postgres://u@[2001:db8::1]:5432/d",
        "postgresql://u@one,two:5433,three/d?target_session_attrs=read-write",
        "postgresql://u@/d?host=db.example.com",
        "postgresql://?hostaddr=192.0.2.1&user=u",
        "host=db.example.com dbname=d user=u password='p w'",
        "hostaddr=192.0.2.1 dbname=d",
        "host=a,b hostaddr=192.0.2.1, user=u",
        "host = db.example.com\n options='-c statement_timeout=5s'",
        "host=h sslmode=require require_auth=scram-sha-256,md5",
        "host=h require_auth=!gss,!sspi,!password gssencmode=disable gssdelegation=0",
        "host=h require_auth=none",
        "host=h passfile='' sslcert='' require_auth=''",
    ],
)
def test_a_host_is_taken_in_either_notation(text: str) -> None:
    _check(text)


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://u:{p}@/d",
        "postgresql:///d?user=u&password={p}",
        "postgresql://u:{p}@%2Frun%2Fpostgresql/d",
        "postgresql://u:{p}@%2frun%2fpostgresql/d",
        "postgresql://u:{p}@%40abstract/d",
        "postgresql://u:{p}@/d?host=/run/postgresql",
        "postgresql://u:{p}@/d?host=%2Frun%2Fpostgresql",
        "postgresql://u:{p}@/d?%68ost=/run/postgresql",
        "postgresql://u:{p}@db.example.com/d?host=/run/postgresql",
        "postgresql://u:{p}@db.example.com/d?host=",
        "postgresql://u:{p}@db.example.com,/d",
        "postgresql://u:{p}@,db.example.com/d",
        "postgresql://u:{p}@db.example.com,%2Frun%2Fpostgresql/d",
        "postgresql://u:{p}@db.example.com%2C%2Frun%2Fpostgresql/d",
        "postgresql://u:{p}@db.example.com%2C/d",
        "dbname=d user=u password={p}",
        "host='' dbname=d password={p}",
        "host=/run/postgresql password={p}",
        "host='/run/postgresql' password={p}",
        r"host=\/run/postgresql password={p}",
        "host=@abstract password={p}",
        "host=db.example.com,/run/postgresql password={p}",
        "host=db.example.com,,other password={p}",
        "host=db.example.com host=/run/postgresql password={p}",
        "hostaddr=192.0.2.1, password={p}",
    ],
)
def test_a_socket_of_the_worker_is_refused_however_it_is_spelled(where: str) -> None:
    _refuse(where.format(p=PASSWORD), "must name the host")


@pytest.mark.parametrize("option", [*_FILES, "service"])
@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:{p}@h/d?{option}=/run/x",
        "postgresql://u:{p}@h/d?sslmode=require&{encoded}=%2Frun%2Fx",
        "host=h password={p} {option}=/run/x",
        "host=h password={p}\t{option} = '/run/x'",
        r"host=h password={p} {option}=\/run\/x",
    ],
)
def test_a_file_or_service_of_the_worker_is_refused_and_named(option: str, text: str) -> None:
    encoded = f"%{ord(option[0]):02x}{option[1:]}"
    _refuse(text.format(p=PASSWORD, option=option, encoded=encoded), f"has {option}, which")


def test_a_file_is_refused_also_for_one_called_like_the_systems_certificates() -> None:
    _refuse("host=h sslcert=system sslrootcert=./system", "has sslcert, sslrootcert, which")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gssencmode", "prefer"),
        ("gssencmode", "require"),
        ("gssdelegation", "1"),
        ("require_auth", "gss"),
        ("require_auth", "scram-sha-256,gss"),
        ("require_auth", "sspi"),
        ("require_auth", "!password"),
        ("require_auth", "!gss"),
    ],
)
def test_the_workers_kerberos_ticket_is_not_shown_to_strangers(option: str, value: str) -> None:
    _refuse(f"host=h password={PASSWORD} {option}={value}", f"has {option}, which")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:{p}@h:port/d",
        "postgresql://u:{p}@h/d?Host=/run/x",
        "HOST=/run/x password={p}",
        "host=h password={p} nonsense=1",
        "dbname=postgresql://u:{p}@%2Frun/d host=h user",
        "sealed:{p}",
        "postgresql://u:{p}@h/d\0",
    ],
)
def test_what_is_malformed_is_refused_and_not_repeated(text: str) -> None:
    _refuse(text.format(p=PASSWORD), r"^db_connection (is|has) ")


def test_a_connection_string_as_the_databases_name_leads_nowhere_else(database: Database) -> None:
    settings = ConnectionSettings.from_caller(
        SecretText(f"host=127.0.0.1 port={database.server.port} dbname='host=/run/x' user=u")
    )
    with pytest.raises(DatabaseError, match="refused the connection"):
        connect(settings)


def _holder(database: Database) -> str:
    """A role whose password is ours, and its string without it."""
    database.run("DROP ROLE IF EXISTS holder")
    database.create_role("holder", "ours")
    return database.server.connection_string(database.name, user="holder", tcp=True)


@pytest.mark.parametrize("empty", ["passfile", "host", "sslcert", "require_auth", "dbname"])
def test_an_empty_option_of_a_caller_counts_as_not_given(empty: str) -> None:
    given = psycopg2.extensions.make_dsn("hostaddr=192.0.2.1 user=u")
    with_it = ConnectionSettings.from_caller(SecretText(f"{given} {empty}=''"))

    assert with_it.parameters == ConnectionSettings.from_caller(SecretText(given)).parameters


def test_an_empty_password_file_of_a_caller_is_not_ours(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = _holder(database)
    passwords = tmp_path / ".pgpass"
    passwords.write_text("*:*:*:*:ours\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(DatabaseError, match="no password supplied"):
        connect(ConnectionSettings.from_caller(SecretText(url + "?passfile=")))
    # The file would have been good for it.
    connect(ConnectionSettings.from_installation(SecretText(url + "?passfile="), "t")).close()
