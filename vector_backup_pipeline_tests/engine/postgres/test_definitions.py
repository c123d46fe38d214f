"""Reading definitions of tables: omissions, locks, privileges, and old servers' catalogs.

The tests of the recreation check that the definitions are complete.
"""

import pytest

from vector_backup_pipeline.engine.manifest_statements import check_statements
from vector_backup_pipeline.engine.postgres.definitions import read_definitions, reading
from vector_backup_pipeline.engine.table_definition import Kind, OmissionKind
from vector_backup_pipeline_tests.engine.postgres.rich_schema import RICH_SCHEMA
from vector_backup_pipeline_tests.fix_definitions import (
    Databases,
    oid,
    read,
    read_all,
    read_table,
    step,
)
from vector_backup_pipeline_tests.fix_postgres import Database


@pytest.fixture(params=[18, 16])
def source(request: pytest.FixtureRequest, databases: Databases) -> Database:
    return databases(request.param)


def test_a_backup_writes_only_statements_that_a_manifest_may_contain(source: Database) -> None:
    source.run(RICH_SCHEMA)
    definitions = read_all(source)

    check_statements(definitions.tables.values(), definitions.dependencies)


def test_what_is_not_recreated_is_named(source: Database) -> None:
    source.run(
        """CREATE TYPE span AS RANGE (subtype = float8);
        CREATE COLLATION plain (provider = libc, locale = 'C');
        CREATE TYPE pair AS (a int, b text);
        CREATE DOMAIN lo AS oid;
        CREATE FUNCTION made(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT t';
        CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TABLE base (a int);
        CREATE TABLE t (b text DEFAULT made('x') COLLATE plain, s serial, r span[], image lo)
            INHERITS (base);
        CREATE TRIGGER before_all BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fired();
        CREATE RULE silent AS ON DELETE TO t DO INSTEAD NOTHING;
        CREATE PUBLICATION everything FOR ALL TABLES;
        CREATE PUBLICATION just_t FOR TABLE t;
        GRANT SELECT ON t TO defs_reader;
        GRANT UPDATE (b) ON t TO defs_reader;
        GRANT USAGE ON SEQUENCE t_s_seq TO defs_reader;
        CREATE TABLE typed OF pair;
        CREATE TABLE p (k int, i int GENERATED ALWAYS AS IDENTITY) PARTITION BY LIST (k);
        CREATE TRIGGER each_row BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION fired();
        CREATE TABLE p1 PARTITION OF p DEFAULT;
        CREATE RULE quiet AS ON DELETE TO p1 DO INSTEAD NOTHING"""
    )

    def omissions(name: str) -> list[tuple[str, str]]:
        return [
            (omission.kind.value, omission.text) for omission in read_table(source, name).omissions
        ]

    texts = {text: kind for kind, text in omissions("t")}
    for kind, text in (
        ("trigger", "trigger before_all"),
        ("rule", "rule silent"),
        ("publication", "publication just_t"),
        ("grant", "grants on sequence public.t_s_seq"),
        ("structure", "inheritance from public.base"),
        ("large objects", "large objects of column image: the backup has only their OIDs"),
    ):
        assert texts[text] == kind
    assert "publication everything" not in texts
    assert any(text.startswith("grants {") for text in texts)
    assert any(text.startswith("grants on column b {") for text in texts)
    assert [str(dependency) for dependency in read_table(source, "t").requires] == [
        "function public.made(text)",
        "collation public.plain",
        "type public.span",
    ]
    assert omissions("typed") == [("structure", "type public.pair of the table")]
    whole = omissions("p")
    assert ("trigger", "trigger each_row") in whole
    assert ("rule", "partition public.p1: rule quiet") in whole
    assert not [text for kind, text in whole if kind == "structure" or "p1: trigger" in text]
    alone = omissions("p1")
    assert ("trigger", "trigger each_row") in alone
    assert ("structure", "attachment as a partition of public.p DEFAULT") in alone
    has_identity = ("structure", "identity of column i") in alone
    assert has_identity == (source.server.version >= 17)


def test_a_partition_loses_an_identity_of_its_own(databases: Databases) -> None:
    """Only servers before 17 have these."""
    database = databases(16)
    database.run(
        """CREATE TABLE p (k int NOT NULL) PARTITION BY LIST (k);
        CREATE TABLE p1 (k int GENERATED ALWAYS AS IDENTITY);
        COMMENT ON SEQUENCE p1_k_seq IS 'its own';
        ALTER TABLE p ATTACH PARTITION p1 DEFAULT"""
    )
    definitions = read(database, "p")
    (table,) = definitions.tables.values()

    check_statements([table], definitions.dependencies)
    assert [str(omission) for omission in table.omissions] == [
        "partition public.p1: identity of column k"
    ]
    assert table.sequences == ()


def test_reading_needs_no_privilege_but_select(source: Database) -> None:
    source.run(
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
    table = read_table(source, "t", user="defs_reader")

    values = {sequence.name: sequence.last_value for sequence in table.sequences}
    assert values == {"t_id_seq": None, "numbers": None, "t_g_seq": 1}
    unread = [
        omission.text
        for omission in table.omissions
        if omission.kind is OmissionKind.SEQUENCE_VALUE
    ]
    assert unread == [
        f"last value of sequence {name}, which the role may not read: a restore sets it from the "
        f"values of {column}"
        for name, column in (("public.t_id_seq", "id"), ("hidden.numbers", "n"))
    ]
    role_dependent = {"sequences", "omissions"}
    as_owner = read_table(source, "t")
    assert table.model_dump(exclude=role_dependent) == as_owner.model_dump(exclude=role_dependent)


def test_a_partition_in_the_set_beside_its_root_is_created_by_the_root(source: Database) -> None:
    source.run(RICH_SCHEMA)
    definitions = read(source, "leaves.parts_eu_1", "parts", "parts_eu")
    leaf, root, middle = (
        definitions.tables[oid(source, name)] for name in ("leaves.parts_eu_1", "parts", "parts_eu")
    )

    assert str(leaf.created_with) == str(middle.created_with) == "public.parts"
    assert (leaf.ddl, leaf.indexes, leaf.foreign_keys) == ((), (), ())
    assert [statement.name for statement in root.statements(Kind.TABLE)] == [
        *("parts", "parts_eu", "parts_rest", "parts_eu_1")
    ]
    assert leaf.primary_key == ("id", "region", "at")


@pytest.mark.parametrize(
    "blocking", ["ALTER SEQUENCE t_id_seq SET UNLOGGED", "ALTER TABLE other ADD COLUMN x int"]
)
def test_reading_does_not_wait_for_others(source: Database, blocking: str) -> None:
    source.run(
        """CREATE TABLE other (a int);
        CREATE TABLE t (id serial, b int);
        CREATE POLICY looks ON t USING (EXISTS (SELECT 1 FROM other WHERE a = b))"""
    )
    table_oid = oid(source, "t")
    with source.session() as session, session.cursor() as blocker:
        blocker.execute(blocking)
        with step(source) as cursor:
            cursor.execute("LOCK TABLE ONLY public.t IN ACCESS SHARE MODE NOWAIT")
            table = read_definitions(cursor, [table_oid]).tables[table_oid]
            cursor.execute("SELECT current_setting('lock_timeout')")
            assert cursor.fetchone() == ("10s",)
            cursor.execute(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid()"
                " AND relation >= 16384"
            )
            assert {row[0] for row in cursor.fetchall()} == {"public.t"}
    policies = table.statements(Kind.POLICY)
    unread = [omission for omission in table.omissions if omission.prevents_creation]
    if "other" in blocking:
        assert policies == ()
        assert unread[0].text.startswith("policy looks of public.t, which the backup could not")
    else:
        assert (len(policies), unread) == (1, [])
        assert [sequence.last_value for sequence in table.sequences] == [None]


def test_the_queries_for_older_servers_run_too(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer server has all that PostgreSQL 13 had, so it understands those queries."""
    database = databases(16)
    database.run(RICH_SCHEMA)
    now = read_all(database)
    monkeypatch.setattr(reading, "server_version", lambda _: 130000)
    then = read_all(database)

    def without_compression(statements: tuple[object, ...]) -> list[str]:
        return [str(statement) for statement in statements if "COMPRESSION" not in str(statement)]

    assert then.dependencies == now.dependencies
    for table, newer in zip(then.tables.values(), now.tables.values(), strict=True):
        assert list(map(str, table.ddl)) == without_compression(newer.ddl)
