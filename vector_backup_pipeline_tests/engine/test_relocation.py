"""Names in SQL text: what is moved is renamed wherever it stands, all else stays to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.relocation import Name, names_in, relocated

MOVED: dict[Name, Name] = {
    ("public", "docs"): ("scratch", "docs"),
    ("public", "vector"): ("Ext", "vector"),
    ("public", "vector_dims"): ("Ext", "vector_dims"),
    ("public", "vector_cosine_ops"): ("Ext", "vector_cosine_ops"),
    ("public", "<->"): ("Ext", "<->"),
    ("public", "*"): ("Ext", "*"),
    ("public", "numbers"): ("scratch", "numbers"),
    ("public", "mood"): ("scratch", "mood"),
    ("public", "sorted"): ("scratch", "sorted"),
    ("Größe & Co", 'Table "x" 100%'): ("scratch", 'Table "x" 100%'),
}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "CREATE TABLE public.docs (id int, v public.vector(3)[])",
            'CREATE TABLE "scratch"."docs" (id int, v "Ext"."vector"(3)[])',
        ),
        (
            'CREATE TABLE IF NOT EXISTS "public"."docs" ("select" public.mood)',
            'CREATE TABLE IF NOT EXISTS "scratch"."docs" ("select" "scratch"."mood")',
        ),
        (
            'ALTER SEQUENCE public.numbers OWNED BY "public"."docs"."id"',
            'ALTER SEQUENCE "scratch"."numbers" OWNED BY "scratch"."docs"."id"',
        ),
        (
            "DEFAULT nextval('public.numbers'::regclass)",
            """DEFAULT nextval('"scratch"."numbers"'::regclass)""",
        ),
        (
            """SELECT '"Größe & Co"."Table ""x"" 100%"'::regclass""",
            """SELECT '"scratch"."Table ""x"" 100%"'::regclass""",
        ),
        ("DEFAULT 'public.mood[]'::regtype", """DEFAULT '"scratch"."mood"[]'::regtype"""),
        (
            "CREATE INDEX i ON ONLY public.docs USING hnsw (v public.vector_cosine_ops)",
            'CREATE INDEX i ON ONLY "scratch"."docs" USING hnsw (v "Ext"."vector_cosine_ops")',
        ),
        (
            "CHECK ((v OPERATOR(public.<->) '[1,2]'::public.vector(2)) < 1)",
            """CHECK ((v OPERATOR("Ext".<->) '[1,2]'::"Ext"."vector"(2)) < 1)""",
        ),
        (
            "FOREIGN KEY (a) REFERENCES public.docs(id)",
            'FOREIGN KEY (a) REFERENCES "scratch"."docs"(id)',
        ),
        ("CHECK (public.vector_dims(v) > 2)", 'CHECK ("Ext"."vector_dims"(v) > 2)'),
        (
            "CREATE COLLATION public.sorted (locale = 'C')",
            """CREATE COLLATION "scratch"."sorted" (locale = 'C')""",
        ),
        (
            "EXISTS ( SELECT 1 FROM public.docs d, public.docs WHERE (docs.id = d.id))",
            'EXISTS ( SELECT 1 FROM "scratch"."docs" d, "scratch"."docs" WHERE (docs.id = d.id))',
        ),
        (
            'COMMENT ON COLUMN "Größe & Co"."Table ""x"" 100%"."sélect" IS E\'a \\\\ public.docs\'',
            'COMMENT ON COLUMN "scratch"."Table ""x"" 100%"."sélect" IS E\'a \\\\ public.docs\'',
        ),
    ],
)
def test_a_moved_name_is_replaced_where_it_stands(statement: str, expected: str) -> None:
    assert relocated(statement, MOVED) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "COMMENT ON TABLE x.y IS 'see public.docs, it''s public.vector(3)'",
        "SELECT E'it\\'s public.docs', e'\\\\', U&'public.docs', B'1', 'public.docs'::text",
        "SELECT $$public.docs$$, $a$ $$ public.docs $b$ $a$, $größe$public.docs$größe$",
        "/* public.docs /* nested */ public.docs */ -- public.docs",
        'SELECT "public.docs", "public"".""docs", U&"public".docs',
        "SELECT other.public.docs, public.docs2, xpublic.docs, a$public.docs",
        "SELECT public.*, count(public.*), 2 * 3, public . docs",
        "SELECT 'not closed, public.docs",
        'SELECT "not closed, public.docs',
        "SELECT $$ not closed, public.docs",
        "/* not closed, /* */ public.docs",
        "SELECT E'not closed, public.docs\\",
    ],
)
def test_what_is_no_moved_name_stays(statement: str) -> None:
    assert relocated(statement, MOVED) == statement


def test_a_function_with_a_moved_tables_name_is_kept_apart_by_the_map_of_calls() -> None:
    statement = "CREATE TABLE public.docs (id int DEFAULT public.docs(1))"
    assert relocated(statement, MOVED, calls={}) == (
        'CREATE TABLE "scratch"."docs" (id int DEFAULT public.docs(1))'
    )


def test_a_literal_with_a_backslash_stays_one() -> None:
    moved = {("public", "a\\b'c"): ("scratch", "a\\b'c")}
    statement = "nextval(E'public.\"a\\\\b''c\"'::regclass)"
    assert relocated(statement, moved) == "nextval(E'\"scratch\".\"a\\\\b''c\"'::regclass)"


def test_names_are_found_in_all_their_forms() -> None:
    statement = (
        """CREATE TABLE "Ext"."A ""b""\" (a public.vector(3) DEFAULT f.g('x.y'::regclass),"""
        " CHECK (a OPERATOR(public.<->) b < 1)) -- no.name"
    )
    assert list(names_in(statement)) == [
        ("Ext", 'A "b"'),
        ("public", "vector"),
        ("f", "g"),
        ("x", "y"),
        ("public", "<->"),
    ]


# Pieces of SQL, so that quotes, comments and names meet in every order.
PIECES = st.lists(
    st.sampled_from(
        [
            *("'", "''", '"', '""', "$$", "$a$", "E'", "\\", "--", "\n", "/*", "*/", "(", ")", " "),
            *("public", ".", "docs", "OPERATOR(", "<->", "::regclass", "TABLE ", "1", "é"),
        ]
    )
    | st.text(max_size=3)
).map("".join)


@given(PIECES)
def test_with_nothing_moved_every_text_stays_as_it_is(statement: str) -> None:
    assert relocated(statement, {}) == statement
    assert relocated(statement, {name: name for name in names_in(statement)}) == statement


@given(PIECES)
def test_strings_comments_and_quoted_names_hide_what_is_in_them(inside: str) -> None:
    literal = "'" + inside.replace("'", "''") + "'"
    name = '"' + inside.replace('"', '""') + '"'
    comment = "--" + inside.replace("\n", " ").replace("\r", " ")
    dollars = "$q$" + inside.replace("$", "S") + "$q$"
    hidden = f"SELECT {literal}, {dollars}, x.{name} {comment}"
    assert relocated(hidden, MOVED) == hidden


@given(st.text(min_size=1))
def test_any_quoted_name_is_replaced_by_any_other(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    moved = {("public", name): (name, "other")}
    assert relocated(f"TABLE public.{quoted}", moved) == f'TABLE {quoted}."other"'


@given(PIECES)
def test_names_around_anything_that_is_closed_are_replaced(inside: str) -> None:
    literal = "'" + inside.replace("'", "''") + "'"
    statement = f"public.docs {literal} public.docs"
    assert relocated(statement, MOVED) == f'"scratch"."docs" {literal} "scratch"."docs"'
