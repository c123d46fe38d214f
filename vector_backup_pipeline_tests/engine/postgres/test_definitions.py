"""What is read from one database makes the same tables in an empty one, as pg_dump sees both."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.manifest_statements import unexpected_statements
from vector_backup_pipeline.engine.postgres.definitions import read_definitions, reading
from vector_backup_pipeline.engine.table_definition import Definitions, TableDefinition
from vector_backup_pipeline_tests.engine.postgres import rich_schema


@dataclass
class Database:
    dsn: str
    version: int
    pg_dump: Path

    def run(self, statements: str | Sequence[str]) -> None:
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            for each in statements.split(";\n") if isinstance(statements, str) else statements:
                if not each.strip():
                    continue
                try:
                    cursor.execute(each)
                except psycopg2.Error as error:
                    raise AssertionError(each) from error
            connection.commit()

    def ask(self, query: str, *parameters: object) -> Any:
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()

    @contextmanager
    def snapshot(self, user: str = "postgres") -> Iterator[Cursor]:
        with closing(
            psycopg2.connect(
                # A test of locks ends, also when the code under test waits for one.
                self.dsn,
                user=user,
                options="-c statement_timeout=20s",
            )
        ) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL search_path = ''")
                yield cursor

    def definitions(self, *names: str) -> Definitions:
        with self.snapshot() as cursor:
            return read_definitions(cursor, [self.oid(name) for name in names])

    def definition(self, name: str) -> TableDefinition:
        return self.definitions(name).tables[self.oid(name)]

    def oid(self, name: str) -> int:
        return int(self.ask("SELECT %s::regclass::oid", name)[0][0])

    def root_tables(self) -> list[int]:
        found = self.ask(
            "SELECT c.oid FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT relispartition"
            " AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY c.oid"
        )
        return [row[0] for row in found]


@dataclass
class Server:
    uri: str
    version: int
    pg_dump: Path
    made: int = 0

    def database(self) -> Database:
        self.made += 1
        name = f"defs_{self.made}"
        with closing(psycopg2.connect(self.uri)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
            cursor.execute(create.format(sql.Identifier(name)))
        dsn = psycopg2.extensions.make_dsn(**{**parse_dsn(self.uri), "dbname": name})
        return Database(dsn, self.version, self.pg_dump)


def _served(server: EmbeddedServer) -> Server:
    served = Server(server.connection_string(), server.version, server.bin_directory / "pg_dump")
    with closing(psycopg2.connect(served.uri)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for role in rich_schema.ROLES:
            # Another module's tests may have made them on the same server.
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            if not cursor.fetchall():
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    return served


@pytest.fixture(scope="module")
def postgres_18(server18: EmbeddedServer) -> Server:
    return _served(server18)


@pytest.fixture(scope="module")
def postgres_16(server16: EmbeddedServer) -> Server:
    return _served(server16)


@pytest.fixture(params=[18, 16])
def database(request: pytest.FixtureRequest) -> Database:
    server: Server = request.getfixturevalue(f"postgres_{request.param}")
    return server.database()


def make_rich(database: Database) -> None:
    database.run(rich_schema.SHARED + rich_schema.ATTACH)
    if database.version >= 18:
        database.run(rich_schema.ONLY_18)


def read_all(database: Database) -> Definitions:
    with database.snapshot() as cursor:
        return read_definitions(cursor, database.root_tables())


def in_order(definitions: Definitions) -> list[TableDefinition]:
    """Inheritance parents first."""
    done: dict[str, TableDefinition] = {}
    waiting = list(definitions.tables.values())
    while waiting:
        ready = [t for t in waiting if all(str(parent) in done for parent in t.inherits)]
        done |= {str(table): table for table in ready}
        waiting = [table for table in waiting if str(table) not in done]
    return list(done.values())


def recreate(target: Database, definitions: Definitions) -> None:
    tables = in_order(definitions)
    # A manifest with a statement of an unknown kind is refused: what is written must be known.
    assert list(unexpected_statements(tables, definitions.dependencies)) == []
    target.run(definitions.dependencies.ddl)
    for each in (
        "sequence_ddl",
        "ddl",
        "preference_ddl",
        "key_ddl",
        "index_ddl",
        "late_constraint_ddl",
        "foreign_key_ddl",
        "row_security_ddl",
        "comment_ddl",
        "sequence_comment_ddl",
    ):
        target.run([statement for table in tables for statement in getattr(table, each)])
    for value in (value for table in tables for value in table.sequence_values):
        name = target.ask("SELECT format('%%I.%%I', %s, %s)", value.schema_name, value.name)[0][0]
        with closing(psycopg2.connect(target.dsn)) as connection:
            connection.cursor().execute(
                "SELECT setval(%s::regclass, %s, %s)", (name, value.last_value, value.is_called)
            )
            connection.commit()


def by_name(definitions: Definitions) -> dict[str, Any]:
    """Apart from what goes by OIDs, which the two databases do not share."""
    tables = {
        str(t): t.model_copy(update={"needs": tuple(sorted(t.needs))})
        for t in definitions.tables.values()
    }
    return tables | {each.key: each for each in definitions.dependencies.objects}


def dump(database: Database, pg_dump: Path) -> list[str]:
    """`pg_dump --schema-only` as sorted statements."""
    command = [str(pg_dump), "--schema-only", "--no-owner", "--no-privileges", database.dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    kept = [
        line
        for line in done.stdout.splitlines()
        if not re.match(r"--|SET |\\(un)?restrict |SELECT pg_catalog.set_config", line)
    ]
    statements = re.split(r";\n", "\n".join(kept) + "\n")
    return sorted(each.strip() for each in statements if each.strip())


def sequence_values(database: Database) -> Any:
    return database.ask(
        "SELECT schemaname, sequencename, start_value, last_value FROM pg_sequences ORDER BY 1, 2"
    )


@pytest.mark.parametrize(("source", "target"), [(18, 18), (16, 16), (16, 18)])
def test_an_empty_database_gets_the_same_tables(
    source: int, target: int, request: pytest.FixtureRequest
) -> None:
    a: Database = request.getfixturevalue(f"postgres_{source}").database()
    b: Database = request.getfixturevalue(f"postgres_{target}").database()
    make_rich(a)
    read = read_all(a)
    definitions = Definitions.model_validate_json(read.model_dump_json())
    assert definitions == read

    recreate(b, definitions)

    was, now = dump(a, b.pg_dump), dump(b, b.pg_dump)
    assert (sorted(set(was) - set(now)), sorted(set(now) - set(was))) == ([], [])
    assert now == was
    assert sequence_values(b) == sequence_values(a)
    again = read_all(b)
    if source == target:
        # Valid in the child and NOT VALID above: pg_dump too makes it the child's own.
        special = "public.new_child"
        before, after = by_name(definitions), by_name(again)
        before.pop(special, None), after.pop(special, None)
        assert after == before
    assert not [t for t in again.tables.values() if any(not i.valid for i in t.indexes)]


def test_what_is_not_recreated_is_named(database: Database) -> None:
    database.run(
        """CREATE FUNCTION made(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT t';
CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE t (a int, b text DEFAULT made('x'), CHECK (made(b) <> ''), s serial);
CREATE TRIGGER before_all BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fired();
CREATE RULE silent AS ON DELETE TO t DO INSTEAD NOTHING;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION just_t FOR TABLE t;
CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA public;
GRANT SELECT ON t TO defs_reader;
GRANT UPDATE (b) ON t TO defs_reader;
GRANT USAGE ON SEQUENCE t_s_seq TO defs_reader;
CREATE TABLE refers (t t, base int);
CREATE TABLE p (k int) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p DEFAULT;
CREATE RULE quiet AS ON DELETE TO p1 DO INSTEAD NOTHING"""
    )
    named = database.definition("t").not_recreated
    for part in (
        "trigger before_all",
        "rule silent",
        "publication everything (of all tables)",
        "publication just_t",
        "publication by_schema (of the schema)",
        "grants {",
        "grants on column b {",
        "grants on sequence public.t_s_seq",
        "function public.made(text)",
    ):
        assert [each for each in named if each.startswith(part)], part
    assert "type public.t" in database.definition("refers").not_recreated
    assert "partition public.p1: rule quiet" in database.definition("p").not_recreated
    assert database.definitions("t").dependencies.not_recreated == ("function public.made(text)",)


def test_what_a_partition_alone_or_a_large_object_loses_is_named(postgres_18: Server) -> None:
    database = postgres_18.database()
    database.run(
        """CREATE DOMAIN lo AS oid;
CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE p (k int, i int GENERATED ALWAYS AS IDENTITY, image lo) PARTITION BY LIST (k);
CREATE TRIGGER each_row BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION fired();
CREATE TABLE p1 PARTITION OF p DEFAULT"""
    )
    alone = {
        "trigger each_row",
        "identity of column i, which the partitioned table has",
        "large objects of column image: the backup holds only their OIDs",
    }
    assert alone <= set(database.definition("p1").not_recreated)
    whole = database.definition("p").not_recreated
    assert [each for each in whole if "each_row" in each] == ["trigger each_row"]
    assert not [each for each in whole if each.startswith("identity")]


def test_reading_needs_nothing_but_select(database: Database) -> None:
    database.run(
        """CREATE SCHEMA hidden;
CREATE SEQUENCE hidden.numbers;
CREATE TYPE hidden.mood AS ENUM ('a');
CREATE TABLE t (id serial PRIMARY KEY, n int DEFAULT nextval('hidden.numbers'),
    m hidden.mood, g int GENERATED ALWAYS AS IDENTITY);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY anyone ON t USING (true);
CREATE STATISTICS st ON id, n FROM t;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO defs_reader;
GRANT SELECT ON t TO defs_reader;
GRANT SELECT ON SEQUENCE t_g_seq TO defs_reader"""
    )
    oid = database.oid("t")
    with database.snapshot(user="defs_reader") as cursor:
        table = read_definitions(cursor, [oid]).tables[oid]
    values = {each.name: each.last_value for each in table.sequences}
    assert values == {"t_id_seq": None, "numbers": None, "t_g_seq": 1}
    assert [each.name for each in table.sequence_values] == ["t_g_seq"]
    assert any(
        each.startswith("last value of sequence hidden.numbers, which the role may not read")
        for each in table.not_recreated
    )
    as_owner = database.definition("t")
    sequence_fields = {"sequences", "sequence_values", "not_recreated"}
    assert table.model_dump(exclude=sequence_fields) == as_owner.model_dump(exclude=sequence_fields)


def test_a_leaf_or_child_alone_is_made_a_table_of_its_own(
    database: Database, request: pytest.FixtureRequest
) -> None:
    make_rich(database)
    empty: Database = request.getfixturevalue(f"postgres_{database.version}").database()
    read = database.definitions("leaves.parts_eu_1", "derived")
    leaf, child = read.tables.values()
    assert str(leaf.partition_of) == "public.parts_eu"
    assert any(each.startswith("place as a partition of") for each in leaf.not_recreated)
    assert child.inherits == ()
    assert "inheritance from public.base" in child.not_recreated

    recreate(empty, read)

    for name in ("leaves.parts_eu_1", "derived"):
        made = empty.definition(name)
        original = read.tables[database.oid(name)]
        assert [(c.name, c.type.text, c.default, c.not_null) for c in made.columns] == [
            (c.name, c.type.text, c.default, c.not_null) for c in original.columns
        ]
        assert {(c.kind, c.definition) for c in made.constraints} == {
            (c.kind, c.definition) for c in original.constraints
        }
        assert len(made.indexes) == len(original.indexes)


def test_a_leaf_asked_for_with_its_root_is_made_by_the_root(database: Database) -> None:
    make_rich(database)
    read = database.definitions("leaves.parts_eu_1", "parts", "parts_eu")
    leaf = read.tables[database.oid("leaves.parts_eu_1")]
    assert str(leaf.created_with) == "public.parts"
    assert leaf.ddl == leaf.key_ddl == leaf.index_ddl == leaf.comment_ddl == ()
    assert str(read.tables[database.oid("parts_eu")].created_with) == "public.parts"
    assert [str(p) for p in read.tables[database.oid("parts")].partitions] == [
        "public.parts_eu",
        "public.parts_rest",
        "leaves.parts_eu_1",
    ]


def test_types_whose_binary_form_holds_oids_are_marked(database: Database) -> None:
    make_rich(database)
    columns = {c.name: c.type.binary_portable for c in database.definition("vectors").columns}
    assert {name for name, portable in columns.items() if not portable} == {
        "plain",
        "moods",
        "inner",
        "outers",
        "Outer",
        "ref",
        "refs",
    }


@pytest.mark.parametrize(
    "blocking", ["ALTER SEQUENCE t_id_seq SET UNLOGGED", "ALTER TABLE other ADD COLUMN x int"]
)
def test_reading_does_not_wait_behind_others(database: Database, blocking: str) -> None:
    database.run(
        """CREATE TABLE other (a int);
CREATE TABLE t (id serial, b int);
CREATE POLICY looks ON t USING (EXISTS (SELECT 1 FROM other WHERE a = b))"""
    )
    if "DROP" in blocking:
        blocking = "ALTER SEQUENCE t_id_seq OWNER TO defs_reader"
    oid = database.oid("t")
    with closing(psycopg2.connect(database.dsn)) as other, other.cursor() as blocker:
        blocker.execute(blocking)
        with database.snapshot() as cursor:
            cursor.execute("LOCK TABLE ONLY public.t IN ACCESS SHARE MODE NOWAIT")
            table = read_definitions(cursor, [oid]).tables[oid]
            cursor.execute("SELECT current_setting('lock_timeout')")
            assert cursor.fetchone() == ("0",)
            cursor.execute(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid()"
                " AND relation >= 16384"
            )
            assert {row[0] for row in cursor.fetchall()} == {"public.t"}
    assert [c.name for c in table.columns] == ["id", "b"]
    if "other" in blocking:
        assert table.policies == ()
        (unread,) = table.unread_policies
        assert (str(unread.table), unread.name) == ("public.t", "looks")
    else:
        assert [each.last_value for each in table.sequences] == [None]


def test_a_table_that_is_gone_is_missing(database: Database) -> None:
    assert database.definitions().tables == {}
    with database.snapshot() as cursor:
        assert read_definitions(cursor, [987654321]).tables == {}


def test_an_extension_outside_public_and_foreign_tables_come_back(
    database: Database, request: pytest.FixtureRequest
) -> None:
    database.run(
        """CREATE SCHEMA "My Ext";
CREATE EXTENSION vector SCHEMA "My Ext";
CREATE TABLE t (v "My Ext".vector(2) DEFAULT '[1,2]', d float8
    GENERATED ALWAYS AS (("My Ext".vector_dims(v))) STORED);
CREATE INDEX near ON t USING hnsw (v "My Ext".vector_l1_ops);
CREATE TABLE leaf_identity (k int NOT NULL) PARTITION BY LIST (k)"""
    )
    read = read_all(database)
    assert database.definition("t").needs == ("schema My Ext", "extension vector")
    assert database.definition("leaf_identity").needs == ()
    empty: Database = request.getfixturevalue(f"postgres_{database.version}").database()
    recreate(empty, read)
    assert dump(empty, empty.pg_dump) == dump(database, database.pg_dump)
    index = empty.definition("t").indexes[0]
    assert [str(each) for each in index.operator_classes] == ["My Ext.vector_l1_ops"]


def test_a_foreign_table_becomes_an_ordinary_one(
    database: Database, request: pytest.FixtureRequest
) -> None:
    database.run(
        """CREATE FOREIGN DATA WRAPPER far;
CREATE SERVER away FOREIGN DATA WRAPPER far;
CREATE FOREIGN TABLE f (a int NOT NULL, b text DEFAULT 'x') SERVER away"""
    )
    empty: Database = request.getfixturevalue(f"postgres_{database.version}").database()
    read = database.definitions("f")
    recreate(empty, read)
    assert empty.definition("f").kind == "ordinary"
    assert empty.definition("f").columns == database.definition("f").columns
    named = database.definition("f").not_recreated
    assert "foreign server away: becomes an ordinary table" in named


def test_definitions_are_read_in_milliseconds(database: Database) -> None:
    """A run reads them while it holds the tables' locks; two tables take about 15 round trips."""
    make_rich(database)
    oids = [database.oid(n) for n in ("langchain_pg_collection", "langchain_pg_embedding")]
    with database.snapshot() as cursor:
        read_definitions(cursor, oids)
        # The machine may be busy; not each time.
        assert min(_seconds_of_reading(cursor, oids) for _ in range(3)) < 0.5


def _seconds_of_reading(cursor: Cursor, oids: Sequence[int]) -> float:
    started = time.perf_counter()
    read_definitions(cursor, oids)
    return time.perf_counter() - started


def test_nothing_but_the_tables_is_locked(database: Database) -> None:
    make_rich(database)
    oids = database.root_tables()
    with database.snapshot() as cursor:
        read_definitions(cursor, oids)
        cursor.execute(
            "SELECT relation::regclass::text, relkind::text, mode FROM pg_locks"
            " JOIN pg_class ON pg_class.oid = relation"
            " WHERE pid = pg_backend_pid() AND relation >= 16384"
        )
        locked = cursor.fetchall()
    assert {(kind, mode) for _, kind, mode in locked} <= {
        ("r", "AccessShareLock"),
        ("p", "AccessShareLock"),
    }


def test_a_partition_with_an_identity_of_its_own_loses_it_and_says_so(
    postgres_16: Server, postgres_18: Server
) -> None:
    a, b = postgres_16.database(), postgres_18.database()
    a.run(
        """CREATE TABLE p (k int NOT NULL) PARTITION BY LIST (k);
CREATE TABLE p1 (k int GENERATED ALWAYS AS IDENTITY);
COMMENT ON SEQUENCE p1_k_seq IS 'its own';
ALTER TABLE p ATTACH PARTITION p1 DEFAULT"""
    )
    read = read_all(a)
    recreate(b, read)
    [table] = read.tables.values()
    assert "identity of public.p1.k, a partition's own" in table.not_recreated
    assert [str(p) for p in b.definition("p").partitions] == ["public.p1"]


def test_the_queries_for_older_servers_run_too(
    postgres_16: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer server has all that PostgreSQL 13 had, so its queries must be understood here."""
    database = postgres_16.database()
    make_rich(database)
    now = read_all(database)
    monkeypatch.setattr(reading, "server_version", lambda _: 130000)
    then = read_all(database)
    assert then.tables.keys() == now.tables.keys()
    assert [each.key for each in then.dependencies.objects] == [
        each.key for each in now.dependencies.objects
    ]
    compressed = {c.compression for t in now.tables.values() for c in t.columns}
    assert compressed == {None, "pglz"}
    assert {c.compression for t in then.tables.values() for c in t.columns} == {None}
