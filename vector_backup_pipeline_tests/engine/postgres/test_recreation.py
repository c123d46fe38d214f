"""The tables that a target lacks are made there: the same as pg_dump sees them, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.errors import DatabaseRefused, InvalidParams, PermissionDenied
from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation, extensions
from vector_backup_pipeline.engine.postgres.scratch import (
    drop_scratch,
    scratch_name,
)
from vector_backup_pipeline.engine.postgres.session import apply_session_settings
from vector_backup_pipeline.engine.relocation import Name
from vector_backup_pipeline.engine.table_definition import Definitions, Index, TableDefinition
from vector_backup_pipeline_tests.engine.postgres import rich_schema
from vector_backup_pipeline_tests.engine.postgres.test_definitions import (
    Database,
    dump,
    make_rich,
    read_all,
    sequence_values,
)

SCRATCH = scratch_name("5c7a7c4")
_NUMBERS = count(1)
Databases = Callable[[int], Database]


@pytest.fixture
def databases(server18: EmbeddedServer, server16: EmbeddedServer) -> Iterator[Databases]:
    """Makes empty databases, on PostgreSQL 18 or 16; the roles of the rich schema are there."""
    servers = {18: server18, 16: server16}
    made: list[tuple[int, str]] = []
    roles = [(version, role) for version in servers for role in _make_roles(servers[version])]

    def make(version: int = 18) -> Database:
        server = servers[version]
        name = f"recreation_{next(_NUMBERS)}"
        _execute(
            server.connection_string(),
            SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(Identifier(name)),
        )
        made.append((version, name))
        return Database(server.connection_string(name), version, server.bin_directory / "pg_dump")

    yield make
    for version, name in made:
        servers[version].drop_database(name)
    for version, role in roles:
        drop = SQL("DROP ROLE {}").format(Identifier(role))
        _execute(servers[version].connection_string(), drop)


def _make_roles(server: EmbeddedServer) -> Iterator[str]:
    """Those that no other test made; they belong to the whole server."""
    for role in rich_schema.ROLES:
        try:
            create = SQL("CREATE ROLE {} LOGIN").format(Identifier(role))
            _execute(server.connection_string(), create)
        except psycopg2.errors.DuplicateObject:
            continue
        yield role


def _execute(dsn: str, statement: Any) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)


@pytest.fixture(params=[18, 16])
def source(request: pytest.FixtureRequest, databases: Databases) -> Database:
    return databases(request.param)


@pytest.fixture
def target(source: Database, databases: Databases) -> Database:
    return databases(source.version)


@contextmanager
def step(database: Database, user: str = "postgres") -> Iterator[Cursor]:
    """A committed transaction of a connection of its own, with a restore's settings."""
    with closing(psycopg2.connect(database.dsn, user=user)) as connection:
        with connection.cursor() as cursor:
            apply_session_settings(cursor, 10)
            yield cursor
        connection.commit()


@dataclass
class Restore:
    """`Recreation` as a run calls it, with or without rows between its steps."""

    target: Database
    definitions: Definitions
    rename: Mapping[str, str] = field(default_factory=dict)
    only: Sequence[str] | None = None
    existing: Mapping[Name, Name] = field(default_factory=dict)
    indexes: list[tuple[Name, str]] = field(default_factory=list)

    def new_tables(self) -> list[NewTable]:
        return [
            NewTable(each, *self.rename.get(str(each), str(each)).split(".", 1))
            for each in self.definitions.tables.values()
            if self.only is None or str(each) in self.only
        ]

    def table(self, name: str) -> NewTable:
        return next(each for each in self.new_tables() if each.definition.name == name)

    def recreation(self, scratch: str | None = SCRATCH) -> Recreation:
        dependencies = self.definitions.dependencies
        return Recreation(self.new_tables(), self.existing, dependencies, scratch)

    def in_scratch(self, load: Callable[[Cursor, Recreation], None] | None = None) -> Recreation:
        """Each step committed on a connection of its own."""
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

    def in_place(self) -> Recreation:
        """All steps in one transaction, nothing anywhere else."""
        recreation = self.recreation(scratch=None)
        with step(self.target) as cursor:
            self.all_steps(cursor, recreation)
        return recreation

    def in_one_transaction(self) -> Recreation:
        recreation = self.recreation()
        with step(self.target) as cursor:
            self.all_steps(cursor, recreation)
        return recreation

    def all_steps(self, cursor: Cursor, recreation: Recreation) -> None:
        recreation.check(cursor)
        recreation.create(cursor)
        recreation.build(cursor, self._before_index)
        recreation.finish(cursor)
        recreation.publish(cursor)

    def _before_index(self, place: Name, index: Index) -> None:
        self.indexes.append((place, index.name))


def schemas(database: Database) -> set[str]:
    found = database.ask(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
    )
    return {name for (name,) in found}


def assert_same(left: Database, right: Database) -> None:
    was, now = dump(left, right.pg_dump), dump(right, right.pg_dump)
    assert (sorted(set(was) - set(now)), sorted(set(now) - set(was))) == ([], [])
    assert now == was
    assert sequence_values(right) == sequence_values(left)
    assert schemas(right) == schemas(left)


def through_the_manifest(definitions: Definitions) -> Definitions:
    return Definitions.model_validate_json(definitions.model_dump_json())


PAIRS = [(18, 18), (16, 16), (16, 18)]


@pytest.mark.parametrize(("from_version", "to_version"), PAIRS)
def test_tables_born_in_a_scratch_schema_become_the_same(
    from_version: int, to_version: int, databases: Databases
) -> None:
    a, b = databases(from_version), databases(to_version)
    make_rich(a)
    restore = Restore(b, through_the_manifest(read_all(a)))

    recreation = restore.in_scratch()

    assert_same(a, b)
    assert not any(
        "foreign key" in each for each in recreation.not_recreated("restorer")["public.hashed"]
    )
    built = {name for _, name in restore.indexes}
    assert {"by_distance", "half_l2", "lower ix", "one_null", "rest_only"} <= built
    assert "parts_vec" not in built, "a partitioned table's index has no rows"
    schemas_of_births = {place[0] for place, _ in restore.indexes}
    assert {name for name in schemas_of_births if not name.startswith(SCRATCH)} == set()


@pytest.mark.parametrize(("from_version", "to_version"), PAIRS)
def test_tables_born_in_place_become_the_same(
    from_version: int, to_version: int, databases: Databases
) -> None:
    a, b = databases(from_version), databases(to_version)
    make_rich(a)

    restore = Restore(b, through_the_manifest(read_all(a)))
    restore.in_place()

    assert_same(a, b)
    assert (("public", "vectors"), "half_l2") in restore.indexes


LANGCHAIN = """
CREATE TABLE langchain_pg_collection (
    uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY,
    collection_id uuid REFERENCES langchain_pg_collection (uuid) ON DELETE CASCADE,
    embedding vector(3), document varchar, cmetadata jsonb);
CREATE INDEX by_distance ON langchain_pg_embedding USING hnsw (embedding vector_cosine_ops)"""


def test_a_missing_extension_is_made_where_it_belongs_and_never_in_a_scratch_schema(
    source: Database, target: Database
) -> None:
    source.run('CREATE SCHEMA "Ext";\nCREATE EXTENSION vector SCHEMA "Ext"')
    source.run(f'ALTER DATABASE "{name_of(source)}" SET search_path = public, "Ext"')
    source.run(LANGCHAIN)
    target.run('CREATE SCHEMA "Ext"')
    restore = Restore(target, read_all(source))

    def put_vectors(cursor: Cursor, recreation: Recreation) -> None:
        assert extension_schema(target) == "Ext"
        place = Identifier(*recreation.loading_name(restore.table("langchain_pg_embedding")))
        rows = "(id, embedding) VALUES ('a', '[1,2,3]'), ('b', '[3,4,5]')"
        cursor.execute(SQL("INSERT INTO {} " + rows).format(place))

    restore.in_scratch(put_vectors)
    assert_same(source, target)
    assert target.ask(
        'SELECT count(*), min("Ext".vector_dims(embedding)) FROM langchain_pg_embedding'
    ) == [(2, 3)]
    again = Restore(target, read_all(source), {str(t): f"again.{t.name}" for t in tables(restore)})
    with step(target) as cursor:
        assert again.recreation().can_be_created_elsewhere(cursor)
    again.in_scratch()


def test_an_extension_whose_schema_is_missing_comes_with_it_in_the_one_transaction(
    source: Database, target: Database
) -> None:
    source.run("CREATE SCHEMA ext;\nCREATE EXTENSION vector SCHEMA ext")
    source.run("CREATE TABLE t (v ext.vector(2))")
    restore = Restore(target, read_all(source))
    with step(target) as cursor:
        assert not restore.recreation().can_be_created_elsewhere(cursor)
    restore.in_one_transaction()
    assert_same(source, target)


def tables(restore: Restore) -> list[TableDefinition]:
    return [table.definition for table in restore.new_tables()]


def extension_schema(database: Database) -> str | None:
    found = database.ask(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
    )
    return str(found[0][0]).strip('"') if found else None


def name_of(database: Database) -> str:
    ((name,),) = database.ask("SELECT current_database()")
    return str(name)


@pytest.mark.parametrize("scratch", [SCRATCH, None])
def test_an_extension_in_another_schema_of_the_target_is_used_where_it_is(
    source: Database, target: Database, scratch: str | None
) -> None:
    source.run("CREATE EXTENSION vector")
    source.run(
        """CREATE TABLE t (v vector(2) DEFAULT '[1,2]', many vector(2)[],
    dims int GENERATED ALWAYS AS (vector_dims(v)) STORED,
    CHECK ((v <-> '[0,0]'::vector(2)) < 100));
CREATE INDEX near ON t USING hnsw (v vector_l1_ops);
CREATE INDEX far ON t ((v <#> '[1,1]'));
CREATE DOMAIN unit AS vector(2) CHECK (vector_norm(VALUE) < 2);
CREATE TABLE u (d unit)"""
    )
    target.run("CREATE SCHEMA extensions;\nCREATE EXTENSION vector SCHEMA extensions")
    restore = Restore(target, read_all(source))

    restore.in_scratch() if scratch else restore.in_place()

    ((column, generated, check),) = target.ask(
        "SELECT format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid),"
        " (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass"
        " AND contype = 'c') FROM pg_attribute a JOIN pg_attrdef d ON adrelid = attrelid"
        " AND adnum = 3 WHERE attrelid = 't'::regclass AND attnum = 1"
    )
    assert column == "extensions.vector(2)"
    assert generated == "extensions.vector_dims(v)"
    assert "OPERATOR(extensions.<->)" in check
    definition = target.definition("t")
    assert {str(c) for i in definition.indexes for c in i.operator_classes} >= {
        "extensions.vector_l1_ops"
    }
    assert schemas(target) == {"public", "extensions"}
    assert target.ask(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
    ) == [("extensions",)]


def test_what_the_target_has_stays_as_it_is(source: Database, target: Database) -> None:
    source.run(
        """CREATE TYPE mood AS ENUM ('a', 'b');
CREATE TYPE other AS ENUM ('x');
CREATE SEQUENCE numbers;
COMMENT ON SEQUENCE numbers IS 'from the backup';
CREATE SEQUENCE down INCREMENT -1;
SELECT setval('numbers', 50), setval('down', -5);
CREATE TABLE t (m mood, o other, n int DEFAULT nextval('numbers'), d int
    DEFAULT nextval('down'))"""
    )
    target.run(
        """CREATE TYPE mood AS ENUM ('a', 'b', 'c');
CREATE SEQUENCE numbers;
CREATE SEQUENCE down INCREMENT -1;
SELECT setval('numbers', 7), setval('down', -99)"""
    )
    Restore(target, read_all(source)).in_scratch()
    assert target.ask("SELECT enum_range(NULL::mood)::text, enum_range(NULL::other)::text") == [
        ("{a,b,c}", "{x}")
    ]
    assert target.ask("SELECT last_value FROM numbers") == [(50,)], "moved forward"
    assert target.ask("SELECT last_value FROM down") == [(-99,)], "never back"
    assert target.ask("SELECT obj_description('numbers'::regclass)") == [(None,)]
    assert schemas(target) == {"public"}


def test_a_chosen_table_takes_along_only_what_it_needs(source: Database, target: Database) -> None:
    make_rich(source)
    restore = Restore(target, read_all(source), only=["public.also_draws"])
    restore.in_scratch()
    assert schemas(target) == {"public"}
    assert target.ask("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == [(0,)]


CHAIN = """CREATE TABLE top (id int PRIMARY KEY);
CREATE TABLE middle (id int PRIMARY KEY, up int REFERENCES top);
CREATE TABLE bottom (id int PRIMARY KEY, up int REFERENCES middle, top int REFERENCES top)"""


@pytest.mark.parametrize("scratch", [SCRATCH, None])
def test_a_foreign_key_to_nowhere_is_named_and_one_to_a_table_that_is_there_is_made(
    source: Database, target: Database, scratch: str | None
) -> None:
    source.run(CHAIN)
    target.run('CREATE SCHEMA "S";\nCREATE TABLE "S"."Top" (id int PRIMARY KEY)')
    restore = Restore(
        target,
        read_all(source),
        only=["public.bottom"],
        existing={("public", "top"): ("S", "Top")},
    )
    recreation = restore.in_scratch() if scratch else restore.in_place()
    assert list(recreation.not_recreated("restorer")) == ["public.bottom"]
    assert recreation.not_recreated("restorer")["public.bottom"] == [
        "owner postgres",
        "foreign key bottom_up_fkey to public.middle, which is neither restored along nor in the "
        "target",
    ]
    keys = target.ask(
        "SELECT conname, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    )
    assert keys == [("bottom_top_fkey", '"S"."Top"')]


def test_a_renamed_table_is_not_tied_to_a_table_that_is_not_restored_along(
    source: Database,
) -> None:
    """Beside its original, ON DELETE CASCADE would empty the copy."""
    source.run(CHAIN.replace("REFERENCES middle", "REFERENCES middle ON DELETE CASCADE"))
    restore = Restore(
        source,
        read_all(source),
        rename={"public.bottom": "public.bottom_of_may"},
        only=["public.bottom"],
        existing={("public", "top"): ("public", "top")},
    )
    recreation = restore.in_scratch()
    assert recreation.not_recreated("restorer")["public.bottom"] == [
        "owner postgres",
        "foreign key bottom_up_fkey to public.middle, which is not restored along",
    ]
    keys = source.definition("bottom_of_may").foreign_keys
    assert [key.name for key in keys] == ["bottom_top_fkey"]
    source.run("TRUNCATE middle, bottom")


def test_a_foreign_key_that_the_rows_break_fails_and_leaves_nothing(
    source: Database, target: Database
) -> None:
    source.run(CHAIN)
    target.run("CREATE TABLE top (id int PRIMARY KEY)")
    restore = Restore(target, read_all(source), only=["public.bottom"])
    before = dump(target, target.pg_dump)

    def load(cursor: Cursor, recreation: Recreation) -> None:
        place = Identifier(*recreation.loading_name(restore.table("bottom")))
        cursor.execute(SQL("INSERT INTO {} VALUES (1, NULL, 7)").format(place))

    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        restore.in_scratch(load)
    target.run(f"DROP SCHEMA {SCRATCH} CASCADE")
    assert dump(target, target.pg_dump) == before


def test_a_role_under_forced_policies_can_tie_its_table_to_one_that_is_there(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE TABLE top (id int PRIMARY KEY);
CREATE TABLE secret (id int REFERENCES top, owner text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = CURRENT_USER)"""
    )
    target.run(
        "GRANT CREATE, USAGE ON SCHEMA public TO defs_reader;\n"
        f'GRANT CREATE ON DATABASE "{name_of(target)}" TO defs_reader'
    )
    target.run("SET ROLE defs_reader;\nCREATE TABLE top (id int PRIMARY KEY)")
    restore = Restore(target, read_all(source), only=["public.secret"])
    recreation = restore.recreation()
    with step(target, user="defs_reader") as cursor:
        restore.all_steps(cursor, recreation)
    assert target.ask(
        "SELECT relforcerowsecurity, relowner::regrole::text FROM pg_class"
        " WHERE oid = 'secret'::regclass"
    ) == [(True, "defs_reader")]
    assert target.ask("SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(1,)]


def test_an_inheritance_parent_may_be_there_already(source: Database, target: Database) -> None:
    source.run("CREATE TABLE base (a int);\nCREATE TABLE child (b int) INHERITS (base)")
    target.run("CREATE TABLE other_base (a int)")
    restore = Restore(
        target,
        read_all(source),
        only=["public.child"],
        existing={("public", "base"): ("public", "other_base")},
    )
    with step(target) as cursor:
        recreation = restore.recreation()
        assert not recreation.can_be_created_elsewhere(cursor), "its rows would show in the parent"
    restore.in_place()
    assert target.ask("SELECT inhparent::regclass::text FROM pg_inherits") == [("other_base",)]


def test_a_child_without_its_parent_is_refused(source: Database, target: Database) -> None:
    source.run("CREATE TABLE base (a int);\nCREATE TABLE child (b int) INHERITS (base)")
    recreation = Restore(target, read_all(source), only=["public.child"]).recreation()
    with (
        step(target) as cursor,
        pytest.raises(InvalidParams, match=r"public\.child inherits from public\.base"),
    ):
        recreation.check(cursor)


def test_a_partition_that_its_root_makes_is_refused_alone_and_skipped_with_it(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE TABLE p (k int) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p DEFAULT"""
    )
    definitions = source.definitions("p", "p1")
    alone = Restore(target, definitions, only=["public.p1"]).recreation()
    with (
        step(target) as cursor,
        pytest.raises(InvalidParams, match=r"public\.p1 is a partition .* Restore public\.p,"),
    ):
        alone.check(cursor)
    restore = Restore(target, definitions)
    both = restore.in_scratch()
    assert list(both.not_recreated("restorer")) == ["public.p", "public.p1"]
    assert both.loading_name(restore.table("p1")) == (SCRATCH, "p1")
    assert_same(source, target)


def test_tables_come_after_those_that_their_columns_name(
    source: Database, target: Database
) -> None:
    source.run("CREATE TABLE later (a int);\nCREATE TABLE earlier (l later[])")
    read = read_all(source)
    reversed_tables = dict(reversed(read.tables.items()))
    Restore(target, read.model_copy(update={"tables": reversed_tables})).in_scratch()
    assert_same(source, target)


def test_what_cannot_move_is_made_in_its_place(source: Database, target: Database) -> None:
    source.run(
        """CREATE SCHEMA types;
CREATE TYPE types.span AS RANGE (subtype = float8);
CREATE TYPE types.pair AS (s types.span, t text);
CREATE TABLE t (p types.pair)"""
    )
    restore = Restore(target, read_all(source))
    with step(target) as cursor:
        assert not restore.recreation().can_be_created_elsewhere(cursor)
    restore.in_one_transaction()
    assert_same(source, target)
    with step(target) as cursor:
        again = Restore(target, read_all(source), rename={"public.t": "public.t2"})
        assert again.recreation().can_be_created_elsewhere(cursor), "the type is there by now"


def test_a_refused_preference_is_named_and_nothing_else_is_lost(
    source: Database, target: Database
) -> None:
    source.run("CREATE TABLE t (a text, b int)")
    oid = source.oid("t")
    read = source.definitions("t")
    alter = 'ALTER TABLE ONLY "public"."t"'
    wishes = (
        f'{alter} ALTER COLUMN "a" SET COMPRESSION unheard',
        f'{alter} ALTER COLUMN "a" SET ("pg_unheard" = 1)',
        f'{alter} SET ("unheard" = 1)',
        f'{alter} SET ("toast"."unheard" = 1)',
    )
    table = read.tables[oid].model_copy(update={"preference_ddl": wishes})
    restore = Restore(target, read.model_copy(update={"tables": {oid: table}}))
    recreation = restore.in_scratch()
    assert_same(source, target)
    lost = recreation.not_recreated("restorer")["public.t"][-len(wishes) :]
    assert all(said.startswith(f"{wish} (") for said, wish in zip(lost, wishes, strict=True))


def test_an_index_is_built_without_storage_parameters_that_the_server_does_not_know(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE TABLE t (a text, b int);
CREATE INDEX known ON t (b) WITH (fillfactor = 70) WHERE a <> 'WITH (x)';
CREATE INDEX unknown ON t (b) INCLUDE (a) WITH (fillfactor = 70) WHERE a <> 'WITH (x)'"""
    )
    source.run("UPDATE pg_class SET reloptions = '{unheard=1}' WHERE relname = 'unknown'")
    recreation = Restore(target, read_all(source)).in_scratch()
    definitions = "SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY indexname"
    (known,), (unknown,) = source.ask(definitions)
    plain = unknown.replace(" WITH (unheard='1')", "")
    assert target.ask(definitions) == [(known,), (plain,)]
    (lost,) = [
        e for e in recreation.not_recreated("restorer")["public.t"] if e.startswith("storage")
    ]
    assert "unknown" in lost
    assert "unheard" in lost


def test_a_policy_for_a_role_that_is_missing_is_refused(source: Database, target: Database) -> None:
    source.run(
        """CREATE TABLE t (a int);
CREATE POLICY "for some" ON t TO defs_reader USING (true)"""
    )
    read = read_all(source)
    text = read.model_dump_json().replace("defs_reader", "nobody_here")
    recreation = Restore(target, Definitions.model_validate_json(text)).recreation()
    with (
        step(target) as cursor,
        pytest.raises(DatabaseRefused, match=r"'for some' of public\.t .*'nobody_here'"),
    ):
        recreation.check(cursor)


def test_a_policy_that_the_backup_could_not_read_is_refused(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE TABLE other (a int);
CREATE TABLE t (b int);
CREATE POLICY looks ON t USING (EXISTS (SELECT 1 FROM other WHERE a = b))"""
    )
    with closing(psycopg2.connect(source.dsn)) as busy, busy.cursor() as blocker:
        blocker.execute("LOCK TABLE other")
        read = source.definitions("t")
    recreation = Restore(target, read).recreation()
    with (
        step(target) as cursor,
        pytest.raises(DatabaseRefused, match=r"policy 'looks' of public\.t"),
    ):
        recreation.check(cursor)


def test_a_strangers_sequence_is_not_taken_over(source: Database, target: Database) -> None:
    source.run("CREATE TABLE t (id serial)")
    target.run("CREATE SEQUENCE t_id_seq;\nSELECT setval('t_id_seq', 99)")
    restore = Restore(target, read_all(source))
    with pytest.raises(DatabaseRefused, match=r"a sequence public\.t_id_seq already"):
        restore.in_place()
    with pytest.raises(psycopg2.errors.DuplicateTable):
        restore.in_scratch()
    assert target.ask("SELECT last_value FROM t_id_seq") == [(99,)]


@pytest.mark.parametrize("failing", ["create", "build", "finish", "publish"])
def test_a_failure_leaves_nothing_but_the_scratch_schemas(
    source: Database, databases: Databases, failing: str
) -> None:
    make_rich(source)
    target = databases(source.version)
    target.run("CREATE EXTENSION vector")
    target.run("CREATE TABLE mine (a int)")
    before = dump(target, target.pg_dump)
    read = read_all(source)
    broken = {"create": "ddl", "build": "index_ddl", "finish": "late_constraint_ddl"}
    if failing in broken:
        oid, table = list(read.tables.items())[-1]
        statements = (*getattr(table, broken[failing]), "SELECT 1/0")
        table = table.model_copy(update={broken[failing]: statements})
        read = read.model_copy(update={"tables": {**read.tables, oid: table}})
    restore = Restore(target, read, only=None)
    recreation = restore.recreation()
    if failing == "publish":
        # Somebody else's thing in the scratch schema: it is not dropped along.
        def load(cursor: Cursor, _: Recreation) -> None:
            cursor.execute(f"CREATE TABLE {SCRATCH}.of_somebody_else ()")

        with pytest.raises(psycopg2.errors.DependentObjectsStillExist):
            restore.in_scratch(load)
    else:
        with pytest.raises(psycopg2.errors.DivisionByZero):
            restore.in_scratch()
    in_place = {"types"} if failing != "create" else set()
    left = {name for name in schemas(target) if name.startswith(SCRATCH)}
    assert bool(left) == (failing != "create")
    with step(target) as cursor:
        assert set(drop_scratch(cursor, SCRATCH)) == left
    # The range type can't be born elsewhere, of which a run has been told.
    with step(target) as cursor:
        assert recreation.can_be_created_elsewhere(cursor) == (failing != "create")
    target.run([f"DROP SCHEMA {name} CASCADE" for name in in_place])
    assert dump(target, target.pg_dump) == before


USER_DEFINED = [
    'CREATE SCHEMA "Some (where)"',
    """CREATE FUNCTION "Some (where)"."f, of"(a int, b public.vector[]) RETURNS int
        IMMUTABLE LANGUAGE sql AS 'SELECT 1'""",
    "CREATE FUNCTION below(a int, b int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 < $2'",
    "CREATE OPERATOR === (FUNCTION = below, LEFTARG = int, RIGHTARG = int)",
    "CREATE OPERATOR !!! (FUNCTION = pg_catalog.int4um, RIGHTARG = int)",
    """CREATE TEXT SEARCH DICTIONARY "my words" (TEMPLATE = simple)""",
    "CREATE TEXT SEARCH CONFIGURATION my_search (COPY = simple)",
    """ALTER TEXT SEARCH CONFIGURATION my_search
        ALTER MAPPING FOR asciiword WITH "my words", simple""",
    "CREATE TEXT SEARCH CONFIGURATION unused (COPY = simple)",
    """CREATE OPERATOR CLASS my_ops FOR TYPE int USING btree AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
        FUNCTION 1 btint4cmp(int, int)""",
]
USES_THEM = [
    "CREATE TABLE other (a int)",
    """CREATE TABLE t (a int, o other, d int DEFAULT "Some (where)"."f, of"(1, NULL),
        words text, lexemes tsvector GENERATED ALWAYS AS (to_tsvector('my_search', words)) STORED,
        CHECK (a === 5), CHECK (!!! a < 0)) PARTITION BY LIST (a)""",
    "CREATE TABLE part PARTITION OF t FOR VALUES IN (1)",
    "CREATE INDEX ON part ((below(a, 1)))",
    "CREATE INDEX ON part (a my_ops)",
]


def test_functions_operators_and_types_that_no_backup_holds_are_missed_beforehand(
    source: Database, target: Database
) -> None:
    source.run(["CREATE EXTENSION vector", *USER_DEFINED, *USES_THEM])
    restore = Restore(target, read_all(source), only=["public.t"])
    with step(target) as cursor, pytest.raises(DatabaseRefused) as refused:
        restore.recreation().check(cursor)
    for missing in (
        'function "Some (where)"."f, of"(integer,public.vector[])',
        "function public.below(integer,integer)",
        "operator public.===(integer,integer)",
        "operator public.!!!(NONE,integer)",
        "type public.other",
        "text search configuration public.my_search",
        "operator class public.my_ops for access method btree",
    ):
        assert missing in refused.value.message
    assert "Create them first, then restore" in refused.value.message
    assert "unused" not in refused.value.message

    target.run(["CREATE SCHEMA ext", "CREATE EXTENSION vector SCHEMA ext"])
    target.run(["SET search_path = public, ext", *USER_DEFINED[:1]])
    target.run([each.replace("public.vector", "ext.vector") for each in USER_DEFINED[1:3]])
    with step(target) as cursor, pytest.raises(DatabaseRefused) as refused:
        restore.recreation().check(cursor)
    assert "function" not in refused.value.message, "it takes the vector of the target's schema"
    target.run(USER_DEFINED[3:])
    Restore(target, read_all(source), only=["public.t", "public.other"]).in_scratch()
    assert target.ask("SELECT count(*) FROM t") == [(0,)]


def test_a_function_that_no_new_table_uses_is_not_asked_for(
    source: Database, target: Database
) -> None:
    """The walk through the catalogs names more: here, what an invalid index would need."""
    source.run(USER_DEFINED[2:3])
    source.run("CREATE TABLE t (a int);\nCREATE INDEX broken ON t ((below(a, 1)))")
    source.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
    restore = Restore(target, read_all(source))
    recreation = restore.in_scratch()
    assert (
        "function public.below(integer,integer)" in recreation.not_recreated("restorer")["public.t"]
    )


DOCS = """
CREATE TABLE docs (
    id serial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY, body text UNIQUE,
    self int REFERENCES docs);
CREATE INDEX by_body ON docs (lower(body));
CREATE STATISTICS docs_stats ON id, other FROM docs;
CREATE TABLE allowed (doc int, who text);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON docs USING (EXISTS (
    SELECT 1 FROM allowed a JOIN docs d ON d.id = a.doc WHERE a.doc = docs.id))
"""


def relations(database: Database, schema: str) -> set[str]:
    found = database.ask(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind <> 'c'"
        " UNION ALL SELECT stxname FROM pg_statistic_ext WHERE stxnamespace = %s::regnamespace",
        schema,
        schema,
    )
    return {name for (name,) in found}


def test_a_table_is_restored_beside_its_original(source: Database) -> None:
    """As one does to look into a backup: everything that is named after the table is taken."""
    source.run(DOCS)
    before = relations(source, "public")
    restore = Restore(
        source,
        read_all(source),
        rename={"public.docs": "public.docs_of_may"},
        only=["public.docs"],
        existing={("public", "allowed"): ("public", "allowed")},
    )
    restore.in_scratch()
    assert relations(source, "public") - before == {
        "docs_of_may",
        "docs_of_may_pkey",
        "docs_of_may_body_key",
        "docs_of_may_id_seq",
        "docs_of_may_other_seq",
        "docs_of_may_stats",
        "by_body_1",
    }
    assert schemas(source) == {"public"}
    copy, original = source.definition("docs_of_may"), source.definition("docs")
    assert next(c.default for c in copy.columns) == (
        "nextval('public.docs_of_may_id_seq'::regclass)"
    )
    assert str(copy.foreign_keys[0].references) == "public.docs_of_may"
    policy = copy.policies[0].using or ""
    assert "JOIN public.docs_of_may d" in policy, "a policy's subquery follows the table"
    assert "public.allowed a" in policy
    assert [c.name for c in copy.columns] == [c.name for c in original.columns]


def test_a_table_is_restored_into_another_schema_that_is_missing(
    source: Database, target: Database
) -> None:
    source.run(DOCS)
    rename = {"public.docs": 'New "one".docs', "public.allowed": 'New "one".who may'}
    Restore(target, read_all(source), rename).in_scratch()
    assert relations(target, "public") == set()
    assert relations(target, '"New ""one"""') == (
        relations(source, "public") - {"allowed"} | {"who may"}
    )
    assert schemas(target) == {"public", 'New "one"'}


def test_a_partitioned_table_is_restored_under_another_name(source: Database) -> None:
    source.run(
        """CREATE SCHEMA leaves;
CREATE SCHEMA elsewhere;
CREATE TABLE parts (id bigserial, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE leaves.parts_2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE leaves.rest PARTITION OF parts DEFAULT;
CREATE INDEX parts_v ON parts (v)"""
    )
    rename = {"public.parts": "elsewhere.bits"}
    Restore(source, source.definitions("parts"), rename).in_scratch()
    bits = source.definition("elsewhere.bits")
    assert {str(each) for each in bits.partitions} == {
        "elsewhere.parts_1",  # in its root's schema, and free there
        "leaves.bits_2",
        "leaves.rest_1",
    }
    assert not [i for each in (bits, *bits.partitions) for i in each.indexes if not i.valid]
    assert [i.name for each in bits.partitions for i in each.indexes] == [
        "parts_1_v_idx",
        "bits_2_v_idx",
        "rest_1_v_idx",
    ]


def test_two_tables_swap_their_names(source: Database, target: Database) -> None:
    source.run("CREATE TABLE a (of_a int PRIMARY KEY);\nCREATE TABLE b (of_b int PRIMARY KEY)")
    rename = {"public.a": "public.b", "public.b": "public.a"}
    Restore(target, read_all(source), rename).in_scratch()
    assert [c.name for c in target.definition("a").columns] == ["of_b"]
    assert [c.name for c in target.definition("b").columns] == ["of_a"]


def test_tables_of_one_name_in_two_schemas_are_both_created(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE SCHEMA app;
CREATE TABLE docs (a serial PRIMARY KEY);
CREATE TABLE app.docs (b serial PRIMARY KEY REFERENCES docs)"""
    )
    restore = Restore(target, read_all(source))
    recreation = restore.in_scratch()
    places = [recreation.loading_name(table) for table in restore.new_tables()]
    assert places == [(SCRATCH, "docs"), (SCRATCH + "_2", "docs")]
    assert_same(source, target)


# What the target's extensions are


@pytest.fixture
def without_pgvector(databases: Databases) -> Database:
    """A server, as far as one can see from this database, where pgvector was never installed."""
    database = databases(18)
    database.run(f"ALTER DATABASE \"{name_of(database)}\" SET extension_control_path = '/nowhere'")
    return database


def test_a_server_without_pgvector_is_refused_before_anything_is_made(
    source: Database, without_pgvector: Database
) -> None:
    source.run("CREATE EXTENSION vector;\nCREATE TABLE t (v vector(2));\nCREATE TABLE u (a int)")
    recreation = Restore(without_pgvector, read_all(source)).recreation()
    with (
        step(without_pgvector) as cursor,
        pytest.raises(DatabaseRefused, match=r"has no pgvector.*Install it"),
    ):
        recreation.check(cursor)
    with step(without_pgvector) as cursor:
        Restore(without_pgvector, read_all(source), only=["public.u"]).recreation().check(cursor)


@pytest.mark.parametrize(
    ("table", "enough", "too_old"),
    [
        ("(v vector(2))", "0.1.0", None),
        ("(v vector(2)); CREATE INDEX ON t USING hnsw (v vector_l2_ops)", "0.5.0", "0.4.4"),
        ("(h halfvec(2))", "0.7.0", "0.6.2"),
        ("(h sparsevec(2)[])", "0.10.0", "0.6.2"),
        ("(v vector(2)); CREATE INDEX ON t USING hnsw (v vector_l1_ops)", "0.7.4", "0.6.2"),
        ("(b bit(8)); CREATE INDEX ON t USING hnsw (b bit_jaccard_ops)", "1.0", "0.5.1"),
        ("(v vector(2)); CREATE INDEX ON t ((binary_quantize(v)::bit(2)))", "0.7.0", "0.6.0"),
    ],
)
def test_pgvector_must_be_new_enough_for_what_the_tables_use(
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    enough: str,
    too_old: str | None,
) -> None:
    database = databases(18)
    database.run(f"CREATE EXTENSION vector;\nCREATE TABLE t {table}".replace("; ", ";\n"))
    recreation = Restore(database, read_all(database)).recreation()

    def check(installed: str | None, available: str) -> None:
        state = extensions.ExtensionState(installed, "public", available)
        monkeypatch.setattr(extensions, "extension_states", lambda *_: {"vector": state})
        with step(database) as cursor:
            recreation.check(cursor)

    check(enough, enough)
    check(None, enough)
    if too_old is not None:
        with pytest.raises(DatabaseRefused, match=f"target has {too_old}.*EXTENSION vector UPDATE"):
            check(too_old, "0.8.5")
        with pytest.raises(DatabaseRefused, match=f"offers {too_old}. Install a newer pgvector"):
            check(None, too_old)


def test_a_role_that_may_not_create_the_extension_is_told_who_may(
    source: Database, target: Database
) -> None:
    source.run("CREATE EXTENSION vector;\nCREATE TABLE t (v vector(2))")
    target.run(f'GRANT CREATE ON DATABASE "{name_of(target)}" TO defs_reader')
    with (
        step(target, user="defs_reader") as cursor,
        pytest.raises(PermissionDenied, match="Let a superuser run CREATE EXTENSION vector"),
    ):
        Restore(target, read_all(source)).recreation().create(cursor)


def test_a_trusted_extension_is_made_by_a_role_that_could_not_move_it(
    databases: Databases, server18: EmbeddedServer
) -> None:
    """Trusted: anyone may create it, but what is in it belongs to the superuser."""
    source, target = databases(18), databases(18)
    source.run("CREATE EXTENSION vector;\nCREATE TABLE t (v vector(2))")
    restore = Restore(target, read_all(source))
    share = server18.bin_directory.parent / "share" / "postgresql" / "extension"
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        trusted = Path(directory, "extension")
        trusted.mkdir()
        for file in share.glob("vector*"):
            shutil.copy(file, trusted)
        with (trusted / "vector.control").open("a") as control:
            control.write("\ntrusted = true\n")
        name = name_of(target)
        target.run(
            [
                f"ALTER DATABASE \"{name}\" SET extension_control_path = '{directory}'",
                f'GRANT CREATE ON DATABASE "{name}" TO defs_reader',
                "GRANT CREATE, USAGE ON SCHEMA public TO defs_reader",
            ]
        )
        with step(target, user="defs_reader") as cursor:
            restore.all_steps(cursor, restore.recreation())
    assert_same(source, target)
