"""Names in SQL text are replaced everywhere; all other bytes stay the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.sql_tokens import Name, relocated

MOVED: dict[Name, Name] = {
    ("public", "docs"): ("s", "docs"),
    ("public", "numbers"): ("s", "numbers"),
    ("public", "vector"): ("Ext", "vector"),
    ("public", "dims"): ("Ext", "dims"),
    ("public", "<->"): ("Ext", "<->"),
    ("public", "*"): ("Ext", "*"),
    ("Größe & Co", 'x "y" 100%'): ("s", 'x "y" 100%'),
}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("TABLE public.docs (v public.vector(3)[])", 'TABLE "s"."docs" (v "Ext"."vector"(3)[])'),
        ('EXISTS "public"."docs" ("select" int)', 'EXISTS "s"."docs" ("select" int)'),
        ('BY "public"."docs"."id"', 'BY "s"."docs"."id"'),
        ("nextval('public.numbers'::regclass)", """nextval('"s"."numbers"'::regclass)"""),
        ("""'"Größe & Co"."x ""y"" 100%"'::regclass""", """'"s"."x ""y"" 100%"'::regclass"""),
        ("'public.vector[]'::regtype", """'"Ext"."vector"[]'::regtype"""),
        ("(v OPERATOR(public.<->) '[1]')", """(v OPERATOR("Ext".<->) '[1]')"""),
        ("'[1]'::public.vector(1)", """'[1]'::"Ext"."vector"(1)"""),
        ("REFERENCES public.docs(id)", 'REFERENCES "s"."docs"(id)'),
        ("CHECK (public.dims(v) > 2)", 'CHECK ("Ext"."dims"(v) > 2)'),
        ("FROM public.docs d WHERE docs.id = 1", 'FROM "s"."docs" d WHERE docs.id = 1'),
        ("TABLE public.docs IS E'\\\\ public.docs'", 'TABLE "s"."docs" IS E\'\\\\ public.docs\''),
    ],
)
def test_a_moved_name_is_replaced(statement: str, expected: str) -> None:
    assert relocated(statement, MOVED) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "COMMENT ON TABLE x.y IS 'see public.docs, it''s public.vector(3)'",
        "SELECT E'it\\'s public.docs', e'\\\\', B'1', 'public.docs'::text",
        'SELECT "public.docs", "public"".""docs"',
        "SELECT other.public.docs, public.docs2, xpublic.docs, a$public.docs",
        "SELECT public.*, count(public.*), 2 * 3, public . docs",
        # Text that PostgreSQL never prints, or that is not closed, hides the rest.
        "SELECT $$public.docs$$, public.docs",
        "/* public.docs */ public.docs",
        "-- public.docs",
        "SELECT U&'public.docs', public.docs",
        "SELECT 'not closed, public.docs",
        'SELECT "not closed, public.docs',
        "SELECT E'not closed, public.docs\\",
    ],
)
def test_anything_else_stays(statement: str) -> None:
    assert relocated(statement, MOVED) == statement


def test_a_function_with_a_moved_tables_name_is_kept_apart_by_the_map_of_calls() -> None:
    statement = "CREATE TABLE public.docs (id int DEFAULT public.docs(1))"
    assert relocated(statement, MOVED, calls={}) == (
        'CREATE TABLE "s"."docs" (id int DEFAULT public.docs(1))'
    )


def test_a_literal_with_a_backslash_stays_one() -> None:
    moved = {("public", "a\\b'c"): ("s", "a\\b'c")}
    statement = "nextval(E'public.\"a\\\\b''c\"'::regclass)"
    assert relocated(statement, moved) == "nextval(E'\"s\".\"a\\\\b''c\"'::regclass)"


# Pieces of SQL, for all combinations of quotes, comments and names.
PIECES = st.lists(
    st.sampled_from(
        [
            *("'", "''", '"', '""', "$$", "E'", "\\", "--", "\n", "/*", "(", ")", " "),
            *("public", ".", "docs", "OPERATOR(", "<->", "::regclass", "TABLE ", "1", "é"),
        ]
    )
    | st.text(max_size=3)
).map("".join)


@given(PIECES)
def test_with_nothing_moved_every_text_stays_as_it_is(statement: str) -> None:
    assert relocated(statement, {}) == statement
    assert relocated(statement, {name: name for name in MOVED}) == statement


@given(PIECES)
def test_strings_comments_and_quoted_names_hide_what_is_in_them(inside: str) -> None:
    literal = "'" + inside.replace("'", "''") + "'"
    name = '"' + inside.replace('"', '""') + '"'
    hidden = f"SELECT {literal}, x.{name} --{inside}"
    assert relocated(hidden, MOVED) == hidden


@given(PIECES)
def test_names_around_anything_that_is_closed_are_replaced(inside: str) -> None:
    literal = "'" + inside.replace("'", "''") + "'"
    statement = f"public.docs {literal} public.docs"
    assert relocated(statement, MOVED) == f'"s"."docs" {literal} "s"."docs"'
