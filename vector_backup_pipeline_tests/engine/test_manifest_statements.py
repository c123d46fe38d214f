"""A manifest runs as SQL: only statements that a backup writes, about its own tables, are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.manifest import read_manifest
from vector_backup_pipeline.engine.manifest_statements import unexpected_statements
from vector_backup_pipeline.engine.table_definition import (
    Constraint,
    Dependencies,
    DomainDependency,
    ExtensionDependency,
    ForeignKey,
    QualifiedName,
    SchemaDependency,
    Sequence,
)
from vector_backup_pipeline_tests.fix_sets import DEFINITION, SetWriter, sealed

NAME = "vector_backup_20250102_030405.json"
CREATE = 'CREATE TABLE "public"."t" ("id" integer, "note" text DEFAULT \';\'::text)'
_PROGRAM = "COPY (SELECT 1) TO PROGRAM 'id'"
_NO_DEPENDENCIES = Dependencies(objects=(), not_recreated=())
_TABLE = DEFINITION.model_copy(
    update={
        "ddl": (CREATE,),
        "constraints": (
            Constraint(
                name="t_pkey",
                kind="p",
                definition="PRIMARY KEY (id)",
                columns=("id",),
                validated=True,
                local=True,
                inherited=False,
            ),
        ),
        "sequences": (
            Sequence(
                schema_name="public",
                name="t_id_seq",
                role="serial",
                table=QualifiedName(schema_name="public", name="t"),
                column="id",
                data_type="bigint",
                start=1,
                increment=1,
                minimum=1,
                maximum=9,
                cache=1,
                cycle=False,
                unlogged=False,
                last_value=None,
                is_called=None,
            ),
        ),
    }
)


def refused(field: str, *statements: str) -> bool:
    table = _TABLE.model_copy(update={field: statements})
    return any(unexpected_statements([table], _NO_DEPENDENCIES))


_REFUSED = {
    # A second statement, and what could hide one.
    "a second statement": ("ddl", f"{CREATE}; {_PROGRAM}"),
    "a second statement behind an expression": (
        "key_ddl",
        "ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE (id); DROP TABLE public.u",
    ),
    "a closing semicolon": ("ddl", f"{CREATE};"),
    "behind a comment": ("ddl", f"{CREATE} /* ' */; {_PROGRAM} -- '"),
    "a line comment": ("ddl", f"{CREATE} -- x"),
    "behind dollar quotes": ("ddl", f"{CREATE[:-1]}, x text DEFAULT $$'$$); {_PROGRAM}"),
    "an escape string": ("comment_ddl", f"COMMENT ON TABLE public.t IS E'\\'; {_PROGRAM} --'"),
    "no escape string": ("comment_ddl", f"COMMENT ON TABLE public.t IS '\\'; {_PROGRAM} --'"),
    "an escape string that goes on in the next line": (
        "ddl",
        "CREATE TABLE public.t (a text DEFAULT E'x'\n'\\' x'); COPY t TO PROGRAM ' id ' --')",
    ),
    "an escape string behind a number": (
        "ddl",
        f"CREATE TABLE public.t (a text DEFAULT 1E'\\'); {_PROGRAM} --')",
    ),
    "unicode escapes": ("comment_ddl", "COMMENT ON TABLE public.t IS U&'\\0041'"),
    "a string without an end": ("comment_ddl", "COMMENT ON TABLE public.t IS 'x"),
    "a name without an end": ("ddl", 'CREATE TABLE public."t (id int)'),
    "a parenthesis without an end": ("ddl", "CREATE TABLE public.t (id int"),
    "parentheses that do not match": ("ddl", "CREATE TABLE public.t (id int[)])"),
    "NUL": ("ddl", f"{CREATE}\0"),
    # One statement, but of another kind.
    "a program": ("ddl", _PROGRAM),
    "a block": ("index_ddl", "DO $$BEGIN END$$"),
    "a function": ("ddl", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    "a query": ("key_ddl", "SELECT 1"),
    "a trigger": ("key_ddl", "CREATE TRIGGER x BEFORE INSERT ON public.t EXECUTE FUNCTION f()"),
    "of another field": ("comment_ddl", CREATE),
    "a table from a query": ("ddl", f"{CREATE} AS SELECT 1, pg_read_file('/etc/passwd')"),
    "a table from a command": ("ddl", "CREATE TABLE public.t AS EXECUTE x"),
    "a partition": ("ddl", "CREATE TABLE public.t PARTITION OF public.users DEFAULT"),
    "a table of another": ("ddl", f"{CREATE} INHERITS (public.users)"),
    "nothing": ("ddl", ""),
    # Several actions, or one that a backup does not write.
    "two actions": ("key_ddl", "ALTER TABLE ONLY public.t CLUSTER ON x, OWNER TO postgres"),
    "two actions behind a default": (
        "ddl",
        "ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT 1, DISABLE TRIGGER ALL",
    ),
    "an owner": ("ddl", "ALTER TABLE ONLY public.t OWNER TO postgres"),
    "no row security": ("row_security_ddl", "ALTER TABLE public.t DISABLE ROW LEVEL SECURITY"),
    "a rule": ("ddl", "CREATE RULE r AS ON INSERT TO public.t DO INSTEAD NOTHING"),
    # Run at once, where the settings still stand that strings are read by.
    "a bound that calls": (
        "ddl",
        "ALTER TABLE ONLY public.t ATTACH PARTITION public.t FOR VALUES IN (set_config('a', 'b'))",
    ),
    # Of a kind that a backup writes, but about something else.
    "another table": ("key_ddl", 'ALTER TABLE ONLY public.users ADD CONSTRAINT x UNIQUE ("id")'),
    "an index on another table": ("index_ddl", "CREATE INDEX x ON public.users USING btree (f(a))"),
    "another table's policy": (
        "row_security_ddl",
        "CREATE POLICY p ON public.users AS PERMISSIVE FOR ALL TO PUBLIC USING (true)",
    ),
    "another sequence": ("ddl", 'ALTER SEQUENCE "public"."ids" OWNED BY "public"."t"."id"'),
    "another index": ("key_ddl", "ALTER INDEX public.users_pkey SET (fillfactor = 10)"),
    "a reference that is not listed": (
        "foreign_keys",
        "ALTER TABLE ONLY public.t ADD CONSTRAINT x FOREIGN KEY (id) REFERENCES public.other (id)",
    ),
}


@pytest.mark.parametrize("case", list(_REFUSED))
def test_a_statement_that_no_backup_writes_is_refused(case: str) -> None:
    field, statement = _REFUSED[case]
    if field == "foreign_keys":
        own = QualifiedName(schema_name="public", name="t")
        key = ForeignKey(table=own, name="x", references=own, ddl=statement)
        table = _TABLE.model_copy(update={"foreign_keys": (key,)})
        assert any(unexpected_statements([table], _NO_DEPENDENCIES))
    else:
        also = () if field != "ddl" or statement.startswith("CREATE TABLE") else (CREATE,)
        assert refused(field, *also, statement)


@pytest.mark.parametrize(
    ("field", "statement"),
    [
        ("ddl", CREATE),
        ("ddl", 'CREATE TABLE "public"."t" ("a;b""c" text DEFAULT E\'\\\'; x\', "d" int[])'),
        ("ddl", "CREATE TABLE public.t (id integer DEFAULT 1e+30)"),
        ("key_ddl", 'ALTER INDEX "public"."t_pkey" SET ("fillfactor" = \'10\')'),
        (
            "sequence_ddl",
            _SEQUENCE := (
                'CREATE SEQUENCE IF NOT EXISTS "public"."t_id_seq" AS bigint START WITH  -5 '
                "INCREMENT BY 1 MINVALUE  -5 MAXVALUE 9 CACHE 1"
            ),
        ),
        ("comment_ddl", "COMMENT ON TABLE public.t IS '; DROP TABLE t; -- $$ /* \\ it''s'"),
        (
            "index_ddl",
            "CREATE INDEX x ON public.t USING btree (id, f(a, b)) WHERE (a = ANY (ARRAY[1, 2]))",
        ),
    ],
)
def test_what_a_backup_writes_is_read(field: str, statement: str) -> None:
    assert not refused(field, statement)


def test_a_definition_creates_all_tables_that_it_alters() -> None:
    """Else it could name a table of the target as its own partition."""
    table = _TABLE.model_copy(
        update={"ddl": (), "key_ddl": ("ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE (id)",)}
    )
    assert any(unexpected_statements([table], _NO_DEPENDENCIES))


_SCHEMA = SchemaDependency(key="schema s", name="s", ddl=())
_EXTENSION = ExtensionDependency(
    key="extension vector", name="vector", version="1", schema_name="public", ddl=()
)
_DOMAIN = DomainDependency(
    key="domain public.d",
    schema_name="public",
    name="d",
    base="text",
    collation=None,
    default=None,
    not_null=False,
    constraints=(),
    ddl=(),
)


@pytest.mark.parametrize(
    ("dependency", "statement", "is_expected"),
    [
        (_SCHEMA, "CREATE SCHEMA IF NOT EXISTS s", True),
        (_SCHEMA, "CREATE SCHEMA IF NOT EXISTS s GRANT ALL ON public.t TO PUBLIC", False),
        (_SCHEMA, "CREATE SCHEMA IF NOT EXISTS s AUTHORIZATION postgres", False),
        (_EXTENSION, "CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public", True),
        (_EXTENSION, "CREATE EXTENSION IF NOT EXISTS plsh WITH SCHEMA public", False),
        (_EXTENSION, "CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public CASCADE", False),
        (_DOMAIN, 'CREATE DOMAIN "public"."d" AS text CONSTRAINT c CHECK (f(VALUE, 1))', True),
        (_DOMAIN, 'CREATE DOMAIN "public"."other" AS text', False),
        (_DOMAIN, 'ALTER DOMAIN "public"."d" OWNER TO postgres', False),
    ],
)
def test_dependencies_are_held_to_the_same(
    dependency: SchemaDependency | ExtensionDependency | DomainDependency,
    statement: str,
    *,
    is_expected: bool,
) -> None:
    made = dependency.model_copy(update={"ddl": (statement,)})
    dependencies = Dependencies(objects=(made,), not_recreated=())

    assert any(unexpected_statements([], dependencies)) != is_expected


def test_such_a_manifest_is_not_read_though_its_checksum_fits(tmp_path: Path) -> None:
    SetWriter(tmp_path).write("20250102_030405", {"t": 1})
    document = json.loads((tmp_path / NAME).read_text())
    document["tables"][0]["definition"]["ddl"] = [f"{CREATE}; {_PROGRAM}"]

    with pytest.raises(IntegrityError, match=r"holds a statement that no backup writes.*PROGRAM"):
        read_manifest(sealed(document), NAME)
