"""Real servers, PostgreSQL 18 and 16 with pgvector, and a fresh database for each test."""

import itertools
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from vector_backup_pipeline.embedded import (
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    start_embedded_server,
)
from vector_backup_pipeline.embedded.cluster import EMBEDDED_VERSIONS, EmbeddedServerError
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.secrets import SecretText

_NUMBERS = itertools.count()
_TEMPLATE = "with_vector"

LANGCHAIN_DEFINITIONS = """
    CREATE TABLE langchain_pg_collection (
        uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        name varchar NOT NULL UNIQUE,
        cmetadata json
    );
    CREATE TABLE langchain_pg_embedding (
        id varchar PRIMARY KEY,
        collection_id uuid REFERENCES langchain_pg_collection (uuid) ON DELETE CASCADE,
        embedding vector(3),
        document varchar,
        cmetadata jsonb
    );
"""
_LANGCHAIN_ROWS = """
    INSERT INTO langchain_pg_collection (name, cmetadata)
        SELECT 'collection ' || i, '{"source": null}' FROM generate_series(1, 4) i;
    INSERT INTO langchain_pg_embedding
        SELECT 'doc-' || i, (SELECT uuid FROM langchain_pg_collection LIMIT 1),
               ARRAY[i, i / 2.0, -i]::vector, 'document ' || i, jsonb_build_object('i', i)
          FROM generate_series(1, 58) i;
"""
LANGCHAIN_TABLES = LANGCHAIN_DEFINITIONS + _LANGCHAIN_ROWS


@dataclass(frozen=True)
class Database:
    """An empty database with pgvector on one of the servers; its owner is a superuser."""

    server: EmbeddedServer
    name: str

    @property
    def url(self) -> str:
        return self.server.connection_string(self.name)

    def url_as(self, user: str, password: str = "pass word'1") -> str:
        """The URL over TCP, with a password."""
        return tcp_url(self.server, self.name, user, password)

    @contextmanager
    def session(self, url: str | None = None) -> Iterator[Connection]:
        """The test's own connection, rolled back at the end. Its lock timeout is a minute."""
        options = "-c lock_timeout=60s"
        with closing(psycopg2.connect(url or self.url, options=options)) as connection:
            yield connection

    def run(self, statements: str, parameters: Sequence[Any] | None = None) -> None:
        with self.session() as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statements, parameters)

    def ask(
        self, query: str | sql.Composable, parameters: Sequence[Any] | None = None
    ) -> list[tuple[Any, ...]]:
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()

    def ask_one(self, query: str, parameters: Sequence[Any] | None = None) -> Any:
        ((value,),) = self.ask(query, parameters)
        return value

    def psql(self, command: str) -> str:
        """Run the server's psql, with which users would load a file."""
        done = subprocess.run(
            [self.server.bin_directory / "psql", self.url, "-XqAt", "-v", "ON_ERROR_STOP=1"],
            input=command,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def create_role(self, name: str, password: str = "pass word'1") -> str:
        """A role that may only connect; its connection string. Dropped with the server."""
        self.run(f"CREATE ROLE {name} LOGIN PASSWORD %s", [password])
        self.run(f"GRANT USAGE ON SCHEMA public TO {name}")
        return self.url_as(name, password)


def settings_for(url: str) -> ConnectionSettings:
    return ConnectionSettings.from_installation(SecretText(url), "the test")


def user_url(server: EmbeddedServer, database: str, user: str) -> str:
    """A connection string of another user than the superuser, over the Unix socket."""
    return server.connection_string(database).replace("postgres@", f"{quote(user, safe='')}@", 1)


def tcp_url(server: EmbeddedServer, database: str, user: str, password: str | None = None) -> str:
    """A connection string over TCP, where the server asks for the password."""
    credentials = ":".join(quote(text, safe="") for text in (user, password) if text is not None)
    return f"postgresql://{credentials}@127.0.0.1:{server.port}/{quote(database, safe='')}"


def create_database(server: EmbeddedServer, name: str) -> str:
    """Create an empty database; returns its connection string."""
    _execute(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.connection_string(name)


def drop_database(server: EmbeddedServer, name: str) -> None:
    """Drop a database if it exists, and end the sessions in it."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    _execute(server, drop.format(sql.Identifier(name)))


@contextmanager
def new_database(server: EmbeddedServer, name: str) -> Iterator[Database]:
    """An empty database without pgvector, dropped at the end of the block."""
    create_database(server, name)
    try:
        yield Database(server, name)
    finally:
        drop_database(server, name)


def _execute(server: EmbeddedServer, statement: sql.Composed) -> None:
    with closing(psycopg2.connect(server.connection_string())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def find_free_port() -> int:
    """A TCP port of the loopback interface that is currently free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def tcp_settings() -> dict[str, str | int]:
    """Settings of an embedded server that also listens on a free TCP port."""
    return {"listen_addresses": "127.0.0.1", "port": find_free_port()}


def _server(version: int) -> Iterator[EmbeddedServer]:
    # Other users, such as the server's, cannot enter pytest's own directory.
    directory = Path(tempfile.mkdtemp(prefix=f"vector-backup-{version}-"))
    settings = {**THROWAWAY_SETTINGS, "max_connections": 60, "max_prepared_transactions": 5}
    try:
        with _started(directory / "data", version, settings) as server:
            create_database(server, _TEMPLATE)
            Database(server, _TEMPLATE).run("CREATE EXTENSION vector")
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _started(
    directory: Path, version: int, settings: dict[str, str | int | float]
) -> EmbeddedServer:
    """Start it at a free port."""
    for _ in range(2):
        try:
            return start_embedded_server(directory, version, settings=settings | tcp_settings())
        except EmbeddedServerError as error:
            if "Address already in use" not in str(error):
                raise
    return start_embedded_server(directory, version, settings=settings | tcp_settings())


@pytest.fixture(scope="session")
def server18() -> Iterator[EmbeddedServer]:
    yield from _server(18)


@pytest.fixture(scope="session")
def server16() -> Iterator[EmbeddedServer]:
    yield from _server(16)


@pytest.fixture
def database(server18: EmbeddedServer) -> Iterator[Database]:
    """A fresh database on PostgreSQL 18."""
    yield from _database(server18)


@pytest.fixture(params=EMBEDDED_VERSIONS)
def any_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh database, on PostgreSQL 16 and then on 18."""
    yield from _database(request.getfixturevalue(f"server{request.param}"))


@pytest.fixture
def langchain(database: Database) -> Database:
    """LangChain's tables on PostgreSQL 18: 4 collections, 58 embeddings."""
    database.run(LANGCHAIN_TABLES)
    return database


def _database(server: EmbeddedServer) -> Iterator[Database]:
    with database_like(server) as database:
        yield database


@contextmanager
def database_like(server: EmbeddedServer, template: str = _TEMPLATE) -> Iterator[Database]:
    """A copy of a database to which nobody is connected."""
    name = f"test_{next(_NUMBERS)}"
    # Copying a template is seven times as fast as creating the database and the extension.
    Database(server, "postgres").run(
        f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
    )
    yield Database(server, name)
    drop_database(server, name)
