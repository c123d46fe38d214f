"""Missing tables are recreated exactly, compared by pg_dump, or not at all."""

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.errors import DatabaseRefused, InvalidParams, PermissionDenied
from vector_backup_pipeline.engine.postgres.recreation import Recreation, target_objects
from vector_backup_pipeline.engine.postgres.staging import drop_staging
from vector_backup_pipeline.engine.table_definition import Definitions, Kind, Statement
from vector_backup_pipeline_tests.engine.postgres.rich_schema import ONLY_18, RICH_SCHEMA
from vector_backup_pipeline_tests.fix_definitions import (
    STAGING,
    Databases,
    Restore,
    assert_same,
    dump,
    read,
    read_all,
    read_table,
    schemas,
    step,
)
from vector_backup_pipeline_tests.fix_postgres import LANGCHAIN_DEFINITIONS, Database


@pytest.mark.parametrize("staging", [True, False])
@pytest.mark.parametrize(("from_version", "to_version"), [(18, 18), (16, 16), (16, 18)])
def test_pg_dump_sees_the_same_tables(
    from_version: int, to_version: int, staging: bool, databases: Databases
) -> None:
    a, b = databases(from_version), databases(to_version)
    a.run(RICH_SCHEMA + (ONLY_18 if from_version >= 18 else ""))
    restore = Restore(b, read_all(a))

    recreation = restore.in_staging() if staging else restore.in_place()

    assert_same(a, b)
    assert not b.ask("SELECT FROM pg_index WHERE NOT indisvalid")
    assert restore.lost(recreation, "public.hashed") == []
    built = {*restore.indexes}
    assert {"by_distance", "half_l2", "lower ix", "one_null", "rest_only"} <= built
    assert "parts_vec" not in built, "a partitioned table's index has no rows"
    schemas = {recreation.loading_name(table)[0] for table in restore.new_tables()}
    assert all(schema.startswith(STAGING) == staging for schema in schemas)


def test_a_part_of_something_larger_becomes_a_table_of_its_own(
    source: Database, target: Database
) -> None:
    source.run(
        RICH_SCHEMA
        + """CREATE TABLE base (id int NOT NULL, size int DEFAULT 3, CHECK (size > 0));
        CREATE TABLE child (own text) INHERITS (base);
        CREATE INDEX ON child (id);
        CREATE FOREIGN DATA WRAPPER wrapper;
        CREATE SERVER away FOREIGN DATA WRAPPER wrapper;
        CREATE FOREIGN TABLE far (a int NOT NULL, b text DEFAULT 'x') SERVER away"""
    )
    for table in ("leaves.parts_eu_1", "child", "far"):
        original = read_table(source, table)
        Restore(target, read(source, table)).in_place()
        made = read_table(target, table)

        assert made.columns == original.columns
        assert made.ddl == original.ddl
        assert made.indexes == original.indexes
        omitted = {omission.kind.value for omission in original.omissions}
        assert omitted <= {"structure", "foreign server"}
        assert original.omissions != ()
        assert made.omissions == ()


LANGCHAIN = f"""
{LANGCHAIN_DEFINITIONS}
CREATE INDEX by_distance ON langchain_pg_embedding USING hnsw (embedding vector_cosine_ops)"""


def test_a_missing_extension_is_created_in_its_own_schema(
    source: Database, target: Database
) -> None:
    source.run('CREATE SCHEMA "Ext"; CREATE EXTENSION vector SCHEMA "Ext"')
    source.run(f'ALTER DATABASE "{source.name}" SET search_path = public, "Ext"')
    source.run(LANGCHAIN)
    restore = Restore(target, read_all(source))
    with step(target) as cursor:
        assert restore.recreation().missing_dependencies(cursor) == ["extension vector"]

    def load(cursor: Cursor, recreation: Recreation) -> None:
        table = Identifier(*recreation.loading_name(restore.table("langchain_pg_embedding")))
        rows = "(id, embedding) VALUES ('a', '[1,2,3]'), ('b', '[3,4,5]')"
        cursor.execute(SQL("INSERT INTO {} " + rows).format(table))

    restore.in_staging(load)

    assert_same(source, target)
    assert target.ask(
        'SELECT count(*), min("Ext".vector_dims(embedding)) FROM langchain_pg_embedding'
    ) == [(2, 3)]
    with step(target) as cursor:
        assert restore.recreation().missing_dependencies(cursor) == []


@pytest.mark.parametrize("staging", [True, False])
def test_an_extension_in_another_schema_of_the_target_is_used_there(
    source: Database, target: Database, staging: bool
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
    target.run("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    restore = Restore(target, read_all(source))

    restore.in_staging() if staging else restore.in_place()

    definition = read_table(target, "t")
    (table,) = definition.statements(Kind.TABLE)
    for text in (
        "v extensions.vector(2)",
        "extensions.vector_dims(v)",
        "OPERATOR(extensions.<->)",
    ):
        assert text in table.sql
    assert any("v extensions.vector_l1_ops" in index.sql for index in definition.indexes)
    assert schemas(target) == {"public", "extensions"}


def test_existing_objects_of_the_target_stay_as_they_are(
    source: Database, target: Database
) -> None:
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

    Restore(target, read_all(source)).in_staging()

    assert target.ask("SELECT enum_range(NULL::mood)::text, enum_range(NULL::other)::text") == [
        ("{a,b,c}", "{x}")
    ]
    assert target.ask_one("SELECT last_value FROM numbers") == 50, "moved forward"
    assert target.ask_one("SELECT last_value FROM down") == -99, "never back"
    assert target.ask_one("SELECT obj_description('numbers'::regclass)") is None
    assert schemas(target) == {"public"}


CHAIN = """CREATE TABLE top (id int PRIMARY KEY);
CREATE TABLE middle (id int PRIMARY KEY, up int REFERENCES top);
CREATE TABLE bottom (id int PRIMARY KEY, up int REFERENCES middle, top int REFERENCES top)"""


@pytest.mark.parametrize("staging", [True, False])
def test_a_foreign_key_needs_its_other_table(
    source: Database, target: Database, staging: bool
) -> None:
    source.run(CHAIN)
    target.run('CREATE SCHEMA "S"; CREATE TABLE "S"."Top" (id int PRIMARY KEY)')
    restore = Restore(
        target,
        read_all(source),
        only=["public.bottom"],
        existing={("public", "top"): ("S", "Top")},
    )
    recreation = restore.in_staging() if staging else restore.in_place()

    assert recreation.not_recreated("restorer") == {
        "public.bottom": [
            "owner postgres",
            "foreign key bottom_up_fkey to public.middle, which is not restored with it and does "
            "not exist in the target",
        ]
    }
    keys = target.ask(
        "SELECT conname, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    )
    assert keys == [("bottom_top_fkey", '"S"."Top"')]


def test_a_copy_does_not_refer_to_tables_that_are_not_restored_with_it(source: Database) -> None:
    """Beside its original, ON DELETE CASCADE would empty the copy."""
    source.run(CHAIN.replace("REFERENCES middle", "REFERENCES middle ON DELETE CASCADE"))
    restore = Restore(
        source,
        read_all(source),
        rename={"public.bottom": "public.bottom_of_may"},
        only=["public.bottom"],
        existing={("public", "top"): ("public", "top")},
    )
    recreation = restore.in_staging()
    assert restore.lost(recreation, "public.bottom") == [
        "foreign key bottom_up_fkey to public.middle, which is not restored with it"
    ]
    keys = read_table(source, "bottom_of_may").foreign_keys
    assert [key.name for key in keys] == ["bottom_top_fkey"]


def check_fails(restore: Restore, error: type[Exception], match: str) -> None:
    with step(restore.target) as cursor, pytest.raises(error, match=match):
        restore.recreation().check(cursor)


def test_a_partition_that_its_root_creates_is_refused_alone(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE TABLE p (k int) PARTITION BY LIST (k);
        CREATE TABLE p1 PARTITION OF p DEFAULT"""
    )
    restore = Restore(target, read(source, "p", "p1"), only=["public.p1"])
    check_fails(restore, InvalidParams, r"public\.p1 is a partition .* Restore public\.p,")


def test_a_refused_setting_is_named_and_nothing_else_is_lost(
    source: Database, target: Database
) -> None:
    source.run("CREATE TABLE t (a text, b int)")
    definitions = read(source, "t")
    alter = "ALTER TABLE ONLY public.t"
    settings = (
        f"{alter} ALTER COLUMN a SET COMPRESSION unheard",
        f"{alter} ALTER COLUMN a SET (pg_unheard = 1)",
        f"{alter} SET (unheard = 1)",
        f"{alter} SET (toast.unheard = 1)",
    )
    with_settings = with_statements(
        definitions, [Statement(Kind.SETTING, "public", "t", setting) for setting in settings]
    )
    restore = Restore(target, with_settings)
    recreation = restore.in_staging()

    assert_same(source, target)
    lost = restore.lost(recreation, "public.t")
    for omission, setting in zip(lost, settings, strict=True):
        assert omission.startswith(f"{setting} (")


def with_statements(definitions: Definitions, statements: list[Statement]) -> Definitions:
    """The last table has these statements too."""
    table_oid, table = list(definitions.tables.items())[-1]
    table = table.model_copy(update={"ddl": (*table.ddl, *statements)})
    return definitions.model_copy(update={"tables": {**definitions.tables, table_oid: table}})


def test_a_policy_for_a_missing_role_is_refused(source: Database, target: Database) -> None:
    source.run("CREATE TABLE t (a int); CREATE POLICY p ON t TO defs_reader USING (true)")
    text = read_all(source).model_dump_json().replace("defs_reader", "nobody_here")
    restore = Restore(target, Definitions.model_validate_json(text))
    check_fails(restore, DatabaseRefused, "lacks objects .*: role nobody_here. .*pg_dumpall")


def test_a_policy_that_the_backup_could_not_read_is_refused(
    source: Database, target: Database
) -> None:
    source.run(
        """CREATE TABLE other (a int);
        CREATE TABLE t (b int);
        CREATE POLICY looks ON t USING (EXISTS (SELECT 1 FROM other WHERE a = b))"""
    )
    with source.session() as busy, busy.cursor() as blocker:
        blocker.execute("LOCK TABLE other")
        restore = Restore(target, read(source, "t"))
    check_fails(restore, DatabaseRefused, r"public\.t cannot be created .* policy looks")


def test_a_sequence_of_others_is_not_taken_over(source: Database, target: Database) -> None:
    source.run("CREATE TABLE t (id serial)")
    target.run("CREATE SEQUENCE t_id_seq; SELECT setval('t_id_seq', 99)")
    restore = Restore(target, read_all(source))
    with pytest.raises(DatabaseRefused, match=r"a sequence public\.t_id_seq"):
        restore.in_place()
    with pytest.raises(psycopg2.errors.DuplicateTable):
        restore.in_staging()
    assert target.ask_one("SELECT last_value FROM t_id_seq") == 99


@pytest.mark.parametrize("failing", ["create", "build", "finish", "publish"])
def test_a_failure_leaves_nothing_but_the_staging_schemas(
    source: Database, target: Database, failing: str
) -> None:
    source.run("CREATE EXTENSION vector; CREATE SCHEMA app;")
    source.run(LANGCHAIN + "; CREATE SEQUENCE app.numbers")
    source.run("CREATE TABLE numbered (id int DEFAULT nextval('app.numbers'))")
    target.run("CREATE EXTENSION vector; CREATE TABLE mine (a int)")
    before = dump(target, target.server)
    kinds = {"create": Kind.TABLE, "build": Kind.KEY, "finish": Kind.CONSTRAINT}
    kind = kinds.get(failing, Kind.COMMENT)
    broken = [Statement(kind, "public", "t", "SELECT 1/0")]

    with pytest.raises(psycopg2.errors.DivisionByZero):
        Restore(target, with_statements(read_all(source), broken)).in_staging()

    left = {name for name in schemas(target) if name.startswith(STAGING)}
    assert left == (set() if failing == "create" else {STAGING, f"{STAGING}_2"})
    with step(target) as cursor:
        assert set(drop_staging(cursor, STAGING)) == left
    assert dump(target, target.server) == before


def test_a_strangers_object_in_the_staging_schema_is_not_dropped(
    source: Database, target: Database
) -> None:
    source.run("CREATE TABLE t (a int)")

    def add(cursor: Cursor, _: Recreation) -> None:
        cursor.execute(f"CREATE TABLE {STAGING}.of_somebody_else ()")

    with pytest.raises(psycopg2.errors.DependentObjectsStillExist):
        Restore(target, read_all(source)).in_staging(add)


USER_DEFINED = """
CREATE SCHEMA "Some (where)";
CREATE FUNCTION "Some (where)"."f, of"(a int, b public.vector[]) RETURNS int
    IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION below(a int, b int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 < $2';
CREATE OPERATOR === (FUNCTION = below, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR !!! (FUNCTION = pg_catalog.int4um, RIGHTARG = int);
CREATE TEXT SEARCH CONFIGURATION my_search (COPY = simple);
CREATE OPERATOR CLASS my_ops FOR TYPE int USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
    FUNCTION 1 btint4cmp(int, int);
CREATE TABLE other (a int);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE COLLATION plain (provider = libc, locale = 'C');
"""
USES_THEM = """
CREATE TABLE t (a int, o other, d int DEFAULT "Some (where)"."f, of"(1, NULL), spans span[],
    words text COLLATE plain,
    lexemes tsvector GENERATED ALWAYS AS (to_tsvector('my_search', words)) STORED,
    CHECK (a === 5), CHECK (!!! a < 0)) PARTITION BY LIST (a);
CREATE TABLE part PARTITION OF t FOR VALUES IN (1);
CREATE INDEX ON part ((below(a, 1)));
CREATE INDEX ON part (a my_ops);
"""


def test_required_objects_are_checked_before_anything_is_created(
    source: Database, target: Database
) -> None:
    source.run("CREATE EXTENSION vector;" + USER_DEFINED + USES_THEM)
    restore = Restore(target, read(source, "t"))
    with step(target) as cursor, pytest.raises(DatabaseRefused) as refused:
        restore.recreation().check(cursor)
    for missing in (
        'function "Some (where)"."f, of"(integer,public.vector[])',
        "function public.below(integer,integer)",
        "operator public.===(integer,integer)",
        "operator public.!!!(NONE,integer)",
        "type public.other",
        "type public.span",
        "collation public.plain",
        "text search configuration public.my_search",
        "operator class public.my_ops for access method btree",
    ):
        assert missing in refused.value.message

    target.run("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext")
    target.run(USER_DEFINED.replace("public.vector", "ext.vector"))
    recreation = restore.in_staging()

    assert target.ask_one("SELECT count(*) FROM t") == 0
    assert "type public.span" in restore.lost(recreation, "public.t")


def test_what_an_invalid_index_needs_is_not_required(source: Database, target: Database) -> None:
    source.run(
        "CREATE FUNCTION f(a int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';"
        "CREATE TABLE t (a int); CREATE INDEX broken ON t (f(a))"
    )
    source.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
    restore = Restore(target, read_all(source))
    recreation = restore.in_staging()
    assert restore.lost(recreation, "public.t") == ["index broken, which is invalid"]


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
    rows = database.ask(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind <> 'c'"
        " UNION ALL SELECT stxname FROM pg_statistic_ext WHERE stxnamespace = %s::regnamespace",
        [schema, schema],
    )
    return {name for (name,) in rows}


def test_a_table_is_restored_beside_its_original(source: Database) -> None:
    """A copy beside its original: every name derived from the table's is taken."""
    source.run(DOCS)
    before = relations(source, "public")
    restore = Restore(
        source,
        read_all(source),
        rename={"public.docs": "public.docs_of_may"},
        only=["public.docs"],
        existing={("public", "allowed"): ("public", "allowed")},
    )
    restore.in_staging()

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
    copy = read_table(source, "docs_of_may")
    assert "nextval('public.docs_of_may_id_seq'::regclass)" in copy.statements(Kind.TABLE)[0].sql
    assert str(copy.foreign_keys[0].references) == "public.docs_of_may"
    policy = copy.statements(Kind.POLICY)[0].sql
    assert "JOIN public.docs_of_may d" in policy, "a policy's subquery follows the table"
    assert "public.allowed a" in policy
    assert copy.columns == read_table(source, "docs").columns


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
    Restore(source, read(source, "parts"), rename).in_staging()
    bits = read_table(source, "elsewhere.bits")
    tables = [f"{table.schema_name}.{table.name}" for table in bits.statements(Kind.TABLE)]
    assert tables == [
        "elsewhere.bits",
        "elsewhere.parts_1",  # In its root's schema, and free there.
        "leaves.bits_2",
        "leaves.rest_1",
    ]
    assert not source.ask("SELECT FROM pg_index WHERE NOT indisvalid")
    assert {index.name for index in bits.indexes} == {
        *("parts_v", "parts_1_v_idx", "bits_2_v_idx", "rest_v_idx_1")
    }


def test_two_tables_swap_their_names(source: Database, target: Database) -> None:
    source.run("CREATE TABLE a (of_a int PRIMARY KEY); CREATE TABLE b (of_b int PRIMARY KEY)")
    rename = {"public.a": "public.b", "public.b": "public.a"}
    Restore(target, read_all(source), rename).in_staging()
    assert [c.name for c in read_table(target, "a").columns] == ["of_b"]
    assert [c.name for c in read_table(target, "b").columns] == ["of_a"]


# The target's extensions


def test_a_server_without_pgvector_is_refused_before_anything_is_created(
    databases: Databases,
) -> None:
    source, target = databases(18), databases(18)
    # To this database, pgvector looks not installed on the server.
    target.run(f"ALTER DATABASE {target.name} SET extension_control_path = '/nowhere'")
    source.run("CREATE EXTENSION vector; CREATE TABLE t (v vector(2)); CREATE TABLE u (a int)")
    definitions = read_all(source)
    check_fails(Restore(target, definitions), DatabaseRefused, "has no pgvector.*Install it")
    with step(target) as cursor:
        Restore(target, definitions, only=["public.u"]).recreation().check(cursor)


@pytest.mark.parametrize("is_installed", [True, False])
def test_an_extension_that_lacks_a_member_is_refused(
    source: Database, target: Database, is_installed: bool
) -> None:
    """As an older pgvector lacks halfvec and its operator classes."""
    source.run("CREATE EXTENSION vector; CREATE TABLE t (h halfvec(2));")
    source.run("CREATE INDEX ON t USING hnsw (h halfvec_l2_ops)")
    text = read_all(source).model_dump_json().replace("halfvec_l2_ops", "newvec_l2_ops")
    restore = Restore(target, Definitions.model_validate_json(text))
    if is_installed:
        target.run("CREATE EXTENSION vector")
    message = r"version 0\.\S+ of the extension vector, which lacks .*newvec_l2_ops.* Update"
    with step(target) as cursor, pytest.raises(target_objects.ExtensionUnavailable, match=message):
        restore.recreation().check(cursor)
        assert not is_installed
        restore.recreation().create(cursor)


def test_a_role_that_may_not_create_the_extension_learns_who_may(
    source: Database, target: Database
) -> None:
    source.run("CREATE EXTENSION vector; CREATE TABLE t (v vector(2))")
    target.run(f"GRANT CREATE ON DATABASE {target.name} TO defs_reader")
    with (
        step(target, user="defs_reader") as cursor,
        pytest.raises(PermissionDenied, match="Let a superuser run CREATE EXTENSION vector"),
    ):
        Restore(target, read_all(source)).recreation().create(cursor)
