"""Only statements that a backup writes about its own tables are accepted from a manifest."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.manifest import read_manifest
from vector_backup_pipeline.engine.manifest_statements import UnexpectedStatement, check_statements
from vector_backup_pipeline.engine.table_definition import (
    Dependency,
    ForeignKey,
    Index,
    Kind,
    QualifiedName,
    Statement,
    TableDefinition,
)
from vector_backup_pipeline_tests.fix_sets import DEFINITION, SetWriter, sealed

NAME = "vector_backup_20250102_030405.json"
TABLE = QualifiedName(schema_name="public", name="t")
CREATE = 'CREATE TABLE "public"."t" ("id" integer, "note" text DEFAULT \';\'::text)'
PROGRAM = "COPY (SELECT 1) TO PROGRAM 'id'"
ALTER = "ALTER TABLE ONLY public.t "
_OWN = (
    Statement(Kind.TABLE, "public", "t", CREATE),
    Statement(Kind.KEY, "public", "t_pkey", f"{ALTER}ADD CONSTRAINT t_pkey PRIMARY KEY (id)"),
    Statement(
        Kind.SEQUENCE,
        "public",
        "t_id_seq",
        "CREATE SEQUENCE public.t_id_seq AS bigint START WITH -5 INCREMENT BY 1 MINVALUE -5 "
        "MAXVALUE 9 CACHE 1",
    ),
)


def is_refused(kind: Kind, sql: str, name: str = "t") -> bool:
    """Together with the other statements of a table."""
    if kind is Kind.INDEX:
        index = Index(table=TABLE, name=name, access_method="btree", sql=sql, has_rows=True)
        table = DEFINITION.model_copy(update={"ddl": _OWN, "indexes": (index,)})
    else:
        others = [
            statement for statement in _OWN if kind is not Kind.TABLE or statement.kind is not kind
        ]
        statement = Statement(kind, "public", name, sql)
        table = DEFINITION.model_copy(update={"ddl": (*others, statement)})
    return is_unexpected([table])


def is_unexpected(
    tables: Sequence[TableDefinition], dependencies: Sequence[Dependency] = ()
) -> bool:
    try:
        check_statements(tables, dependencies)
    except UnexpectedStatement:
        return True
    return False


_REFUSED = {
    # A second statement, and what could hide one.
    "a second statement": (Kind.TABLE, f"{CREATE}; {PROGRAM}"),
    "a second statement behind an expression": (
        Kind.CONSTRAINT,
        "ALTER TABLE public.t ADD CONSTRAINT k CHECK (true); DROP TABLE public.u",
    ),
    "a closing semicolon": (Kind.TABLE, f"{CREATE};"),
    "behind a comment": (Kind.TABLE, f"{CREATE} /* ' */; {PROGRAM} -- '"),
    "behind dollar quotes": (Kind.TABLE, f"{CREATE[:-1]}, x text DEFAULT $$'$$); {PROGRAM}"),
    "an escape string": (Kind.COMMENT, f"COMMENT ON TABLE public.t IS E'\\'; {PROGRAM} --'"),
    "no escape string": (Kind.COMMENT, f"COMMENT ON TABLE public.t IS '\\'; {PROGRAM} --'"),
    "an escape string that continues in the next line": (
        Kind.TABLE,
        "CREATE TABLE public.t (a text DEFAULT E'x'\n'\\' x'); COPY t TO PROGRAM ' id ' --')",
    ),
    "an escape string behind a number": (
        Kind.TABLE,
        f"CREATE TABLE public.t (a text DEFAULT 1E'\\'); {PROGRAM} --')",
    ),
    "unicode escapes": (Kind.COMMENT, "COMMENT ON TABLE public.t IS U&'\\0041'"),
    "a string without an end": (Kind.COMMENT, "COMMENT ON TABLE public.t IS 'x"),
    "a name without an end": (Kind.TABLE, 'CREATE TABLE public."t (id int)'),
    "a parenthesis without an end": (Kind.TABLE, "CREATE TABLE public.t (id int"),
    "parentheses that do not match": (Kind.TABLE, "CREATE TABLE public.t (id int[)])"),
    # One statement, but of another kind.
    "a program": (Kind.TABLE, PROGRAM),
    "a query": (Kind.KEY, "SELECT 1"),
    "another kind": (Kind.COMMENT, CREATE),
    "a table from a query": (Kind.TABLE, f"{CREATE} AS SELECT 1, pg_read_file('/etc/passwd')"),
    "a partition": (Kind.TABLE, "CREATE TABLE public.t PARTITION OF public.users DEFAULT"),
    "an inheritance child": (Kind.TABLE, f"{CREATE} INHERITS (public.users)"),
    "a typed table": (Kind.COLUMN, f"{ALTER}OF public.u"),
    # Several actions, or one that a backup does not write.
    "two actions": (Kind.INDEX_CHOICE, f"{ALTER}CLUSTER ON x, OWNER TO postgres"),
    "no row security": (Kind.ROW_SECURITY, "ALTER TABLE public.t DISABLE ROW LEVEL SECURITY"),
    "a range type": (Kind.TYPE, "CREATE TYPE public.t AS RANGE (subtype = int)"),
    # Evaluated at once.
    "a bound that calls": (
        Kind.PARTITION,
        f"{ALTER}ATTACH PARTITION public.t FOR VALUES IN (set_config('a', 'b'))",
    ),
    # About an object that it does not name, or that this definition does not create.
    "another table than named": (Kind.TABLE, "CREATE TABLE public.u (id int)"),
    "an index on another table": (Kind.INDEX, "CREATE INDEX t ON public.users USING btree (a)"),
    "a key of another table": (Kind.KEY, "ALTER TABLE ONLY public.u ADD CONSTRAINT t UNIQUE (id)"),
    "another table's policy": (
        Kind.POLICY,
        "CREATE POLICY p ON public.users AS PERMISSIVE FOR ALL TO PUBLIC USING (true)",
    ),
}


@pytest.mark.parametrize("case", list(_REFUSED))
def test_a_statement_that_no_backup_writes_is_refused(case: str) -> None:
    assert is_refused(*_REFUSED[case])


@pytest.mark.parametrize(
    ("kind", "name", "sql"),
    [
        (Kind.COLUMN, "users", "ALTER TABLE ONLY public.users ALTER COLUMN a SET STORAGE MAIN"),
        (Kind.SEQUENCE_OWNER, "ids", "ALTER SEQUENCE public.ids OWNED BY public.t.id"),
        (Kind.SEQUENCE_OWNER, "t_id_seq", "ALTER SEQUENCE public.t_id_seq OWNED BY public.u.id"),
        (Kind.INDEX_SETTING, "users_pkey", "ALTER INDEX public.users_pkey SET (fillfactor = 10)"),
        (Kind.PARTITION, "users", f"{ALTER}ATTACH PARTITION public.users DEFAULT"),
        (Kind.COMMENT, "users", "COMMENT ON TABLE public.users IS 'x'"),
    ],
)
def test_a_statement_may_alter_only_what_its_definition_creates(
    kind: Kind, name: str, sql: str
) -> None:
    assert is_refused(kind, sql, name)
    assert not is_refused(kind, sql.replace("public." + name, "public.t").replace(".u.", ".t."))


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        (Kind.TABLE, CREATE),
        (Kind.TABLE, 'CREATE TABLE "public"."t" ("a;b""c" text DEFAULT E\'\\\'; x\', "d" int[])'),
        (Kind.TABLE, "CREATE TABLE public.t (id integer DEFAULT 1e+30)"),
        (Kind.COMMENT, "COMMENT ON TABLE public.t IS '; DROP TABLE t; -- $$ /* \\ it''s'"),
        (
            Kind.INDEX,
            "CREATE INDEX t ON public.t USING btree (id, f(a, b)) WHERE (a = ANY (ARRAY[1, 2]))",
        ),
    ],
)
def test_a_statement_that_a_backup_writes_is_accepted(kind: Kind, sql: str) -> None:
    assert not is_refused(kind, sql)


def test_a_foreign_key_refers_to_the_table_that_it_names() -> None:
    key = ForeignKey(
        table=TABLE,
        name="x",
        references=QualifiedName(schema_name="public", name="u"),
        sql=f"{ALTER}ADD CONSTRAINT x FOREIGN KEY (id) REFERENCES public.u (id)",
    )
    table = DEFINITION.model_copy(update={"ddl": _OWN, "foreign_keys": (key,)})
    other = DEFINITION.model_copy(
        update={"ddl": _OWN, "foreign_keys": (key.model_copy(update={"references": TABLE}),)}
    )
    assert not is_unexpected([table])
    assert is_unexpected([other])


@pytest.mark.parametrize(
    ("kind", "sql", "is_expected"),
    [
        (Kind.DOMAIN, "CREATE DOMAIN public.d AS text CHECK ((VALUE <> ''))", True),
        (Kind.DOMAIN, "CREATE DOMAIN public.other AS text", False),
        (Kind.DOMAIN_CONSTRAINT, "ALTER DOMAIN public.d ADD CONSTRAINT c CHECK ((f(VALUE)))", True),
        (Kind.DOMAIN_CONSTRAINT, "ALTER DOMAIN public.d OWNER TO postgres", False),
        (Kind.TYPE, "CREATE TYPE public.d AS ENUM ('a', 'b')", True),
        (Kind.TYPE, "CREATE TYPE public.d AS (a int, b text)", True),
        (Kind.TYPE, "CREATE TYPE public.d (INPUT = f, OUTPUT = g)", False),
        (Kind.COMMENT, "COMMENT ON CONSTRAINT c ON DOMAIN public.d IS 'x'", True),
    ],
)
def test_statements_of_types(kind: Kind, sql: str, is_expected: bool) -> None:
    made = Statement(Kind.TYPE, "public", "d", "CREATE TYPE public.d AS (a int)")
    statement = Statement(kind, "public", "d", sql)
    ddl = (made, statement) if sql.startswith(("ALTER", "COMMENT")) else (statement,)
    made_type = Dependency(kind="type", schema_name="public", name="d", ddl=ddl)
    assert is_unexpected([], [made_type]) != is_expected


@pytest.mark.parametrize(
    "statement",
    [
        Statement(Kind.COMMENT, "public", "d", "COMMENT ON SEQUENCE public.d IS 'x'"),
        Statement(Kind.TABLE, "public", "d", "CREATE TABLE public.d (a int)"),
        Statement(Kind.INDEX_SETTING, "public", "d", "ALTER INDEX public.d SET (fillfactor = 10)"),
    ],
)
def test_a_type_creates_itself_and_nothing_else(statement: Statement) -> None:
    made = Dependency(kind="type", schema_name="public", name="d", ddl=(statement,))
    assert is_unexpected([], [made])


def test_a_changed_manifest_is_refused_although_its_checksum_fits(tmp_path: Path) -> None:
    SetWriter(tmp_path).write("20250102_030405", {"t": 1})
    document = json.loads((tmp_path / NAME).read_text())
    statement = ["table", "public", "t", f"{CREATE}; {PROGRAM}"]
    document["tables"][0]["definition"]["ddl"] = [statement]

    with pytest.raises(
        IntegrityError, match=r"contains a statement that no backup writes.*PROGRAM"
    ):
        read_manifest(sealed(document), NAME)
