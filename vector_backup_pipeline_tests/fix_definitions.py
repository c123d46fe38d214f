"""Databases whose tables are read and recreated, and their comparison by pg_dump."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.postgres.definitions import read_definitions
from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation
from vector_backup_pipeline.engine.postgres.session import apply_session_settings
from vector_backup_pipeline.engine.postgres.staging import staging_name
from vector_backup_pipeline.engine.sql_tokens import Name
from vector_backup_pipeline.engine.table_definition import Definitions, Index, TableDefinition
from vector_backup_pipeline_tests.fix_postgres import Database, drop_database, user_url
from vector_backup_pipeline_tests.fix_restore import pg_dump

STAGING = staging_name("5c7a7c4")
ROLES = ("defs_reader", '"Defs Writer"')
_NUMBERS = count(1)
Databases = Callable[[int], Database]


@pytest.fixture
def databases(server18: EmbeddedServer, server16: EmbeddedServer) -> Iterator[Databases]:
    """Makes databases without pgvector, on PostgreSQL 18 or 16; the roles of the tests exist."""
    servers = {18: server18, 16: server16}
    made: list[Database] = []

    def make(version: int) -> Database:
        name = f"definitions_{next(_NUMBERS)}"
        postgres = Database(servers[version], "postgres")
        for role in ROLES:
            postgres.run(
                f"DO $$ BEGIN CREATE ROLE {role} LOGIN;"
                " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
        postgres.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        made.append(Database(servers[version], name))
        return made[-1]

    yield make
    for database in made:
        drop_database(database.server, database.name)


@pytest.fixture
def source(databases: Databases) -> Database:
    return databases(18)


@pytest.fixture
def target(source: Database, databases: Databases) -> Database:
    return databases(source.server.version)


@contextmanager
def step(database: Database, user: str = "postgres") -> Iterator[Cursor]:
    """A committed transaction of a separate connection, with the settings of a run."""
    options = "-c statement_timeout=20s"
    url = user_url(database.server, database.name, user)
    with closing(psycopg2.connect(url, options=options)) as connection:
        with connection.cursor() as cursor:
            apply_session_settings(cursor, 10)
            yield cursor
        connection.commit()


def oid(database: Database, name: str) -> int:
    return int(database.ask_one("SELECT %s::regclass::oid", [name]))


def read(database: Database, *names: str, user: str = "postgres") -> Definitions:
    oids = [oid(database, name) for name in names]
    with step(database, user) as cursor:
        return read_definitions(cursor, oids)


def read_table(database: Database, name: str, user: str = "postgres") -> TableDefinition:
    return read(database, name, user=user).tables[oid(database, name)]


def read_all(database: Database) -> Definitions:
    """The definitions of all tables except partitions, converted to JSON and back."""
    with step(database) as cursor:
        cursor.execute(
            "SELECT c.oid FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT relispartition"
            " AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY c.oid"
        )
        definitions = read_definitions(cursor, [row[0] for row in cursor.fetchall()])
    assert Definitions.model_validate_json(definitions.model_dump_json()) == definitions
    return definitions


def dump(database: Database, server: EmbeddedServer) -> list[str]:
    """`pg_dump --schema-only` of that server, as sorted statements."""
    options = ("--schema-only", "--no-owner", "--no-privileges")
    ignored = re.compile("--|SET |SELECT pg_catalog.set_config")
    lines = pg_dump(database, *options, of_server=server)
    kept = [line for line in lines if not ignored.match(line)]
    statements = re.split(r";\n", "\n".join(kept) + "\n")
    return sorted(statement.strip() for statement in statements if statement.strip())


def assert_same(left: Database, right: Database) -> None:
    was, now = dump(left, right.server), dump(right, right.server)
    assert (sorted(set(was) - set(now)), sorted(set(now) - set(was))) == ([], [])
    values = "SELECT schemaname, sequencename, start_value, last_value FROM pg_sequences ORDER BY 2"
    assert right.ask(values) == left.ask(values)
    assert schemas(right) == schemas(left)


def schemas(database: Database) -> set[str]:
    rows = database.ask(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
    )
    return {name for (name,) in rows}


@dataclass
class Restore:
    """Calls `Recreation` like a run, with or without rows between its steps."""

    target: Database
    definitions: Definitions
    rename: Mapping[str, str] = field(default_factory=dict)
    only: Sequence[str] | None = None
    existing: Mapping[Name, Name] = field(default_factory=dict)
    indexes: list[str] = field(default_factory=list)

    def new_tables(self) -> list[NewTable]:
        return [
            NewTable(table, *self.rename.get(str(table), str(table)).split(".", 1))
            for table in self.definitions.tables.values()
            if self.only is None or str(table) in self.only
        ]

    def table(self, name: str) -> NewTable:
        return next(table for table in self.new_tables() if table.definition.name == name)

    def recreation(self, staging: str | None = STAGING) -> Recreation:
        return Recreation(self.new_tables(), self.existing, self.definitions.dependencies, staging)

    def in_staging(self, load: Callable[[Cursor, Recreation], None] | None = None) -> Recreation:
        """Each step is committed on its own connection."""
        recreation = self.recreation()
        with step(self.target) as cursor:
            recreation.check(cursor)
            recreation.create(cursor)
        if load is not None:
            with step(self.target) as cursor:
                load(cursor, recreation)
        with step(self.target) as cursor:
            recreation.build(cursor, self._before_index)
        with step(self.target) as cursor:
            recreation.finish(cursor)
        with step(self.target) as cursor:
            recreation.publish(cursor)
        return recreation

    def in_place(self, user: str = "postgres") -> Recreation:
        """All steps are in one transaction."""
        recreation = self.recreation(staging=None)
        with step(self.target, user) as cursor:
            recreation.check(cursor)
            recreation.create(cursor)
            recreation.build(cursor, self._before_index)
            recreation.finish(cursor)
            recreation.publish(cursor)
        return recreation

    def lost(self, recreation: Recreation, table: str) -> list[str]:
        """What is reported as not recreated. The role owns its tables."""
        return recreation.not_recreated("postgres")[table]

    def _before_index(self, index: Index) -> None:
        self.indexes.append(index.name)
