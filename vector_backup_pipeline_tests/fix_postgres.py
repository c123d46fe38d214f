"""Real servers, PostgreSQL 18 and 16 with pgvector, and a fresh database for each test."""

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from vector_backup_pipeline.embedded import (
    EMBEDDED_VERSIONS,
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    EmbeddedServerError,
    find_free_port,
    start_embedded_server,
)

_NUMBERS = itertools.count()
_TEMPLATE = "with_vector"

LANGCHAIN_TABLES = """
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
    INSERT INTO langchain_pg_collection (name, cmetadata)
        SELECT 'collection ' || i, '{"source": null}' FROM generate_series(1, 4) i;
    INSERT INTO langchain_pg_embedding
        SELECT 'doc-' || i, (SELECT uuid FROM langchain_pg_collection LIMIT 1),
               ARRAY[i, i / 2.0, -i]::vector, 'document ' || i, jsonb_build_object('i', i)
          FROM generate_series(1, 58) i;
"""


@dataclass(frozen=True)
class Database:
    """An empty database with pgvector on one of the servers; its owner is a superuser."""

    server: EmbeddedServer
    name: str

    @property
    def url(self) -> str:
        return self.server.connection_string(self.name)

    def url_as(self, user: str, password: str = "pass word'1") -> str:
        """Over TCP, where a password is asked for."""
        return self.server.connection_string(self.name, user=user, password=password, tcp=True)

    @contextmanager
    def session(self, url: str | None = None) -> Iterator[Connection]:
        """A connection of the test's own; what is not committed is rolled back. It waits a minute
        for a lock, then the test has failed."""
        options = "-c lock_timeout=60s"
        with closing(psycopg2.connect(url or self.url, options=options)) as connection:
            yield connection

    def run(self, statements: str, parameters: Sequence[Any] | None = None) -> None:
        with self.session() as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statements, parameters)

    def ask(self, query: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()

    def ask_one(self, query: str, parameters: Sequence[Any] | None = None) -> Any:
        ((value,),) = self.ask(query, parameters)
        return value

    def psql(self, command: str) -> str:
        """Run the server's own psql, the tool that users would load a file with."""
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


def _server(version: int) -> Iterator[EmbeddedServer]:
    # Not pytest's own: it closes its folders to other users, the server's among them.
    directory = Path(tempfile.mkdtemp(prefix=f"vector-backup-{version}-"))
    settings = {**THROWAWAY_SETTINGS, "max_connections": 60, "max_prepared_transactions": 5}
    try:
        with _started(directory / "data", version, settings) as server:
            server.create_database(_TEMPLATE)
            Database(server, _TEMPLATE).run("CREATE EXTENSION vector")
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _started(
    directory: Path, version: int, settings: Mapping[str, str | int | float]
) -> EmbeddedServer:
    """At a port that nobody else took first."""
    for _ in range(2):
        try:
            return start_embedded_server(
                directory, version, settings=settings, tcp_port=find_free_port()
            )
        except EmbeddedServerError as error:
            if "Address already in use" not in str(error):
                raise
    return start_embedded_server(directory, version, settings=settings, tcp_port=find_free_port())


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
    name = f"test_{next(_NUMBERS)}"
    # Copying files is seven times as fast as making the database and the extension anew.
    Database(server, "postgres").run(
        f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy"
    )
    yield Database(server, name)
    server.drop_database(name)
