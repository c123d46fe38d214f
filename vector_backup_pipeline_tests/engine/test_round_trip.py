"""The same rows come back: a file loads with psql's `\\copy … csv header`, and nothing differs."""

# ruff: noqa: S608 - the names in these statements are the tests' own

from collections.abc import Callable
from subprocess import CalledProcessError

import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, drop_database
from vector_backup_pipeline_tests.fix_rows import METHODS, RoundTrip, rows_in

MakeRoundTrip = Callable[[Database], RoundTrip]

# Values that CSV or its readers could misinterpret.
AWKWARD_TEXTS = [
    "",
    " ",
    "  leading and trailing  ",
    'a "quoted" word',
    '"',
    '""',
    "a,b",
    "line\nfeed",
    "carriage\rreturn",
    "both\r\nof them",
    "\n",
    "\r",
    "tab\tbed",
    "\\",
    "\\.",
    "\\N",
    "\\n is no line feed",
    "NULL",
    "null",
    "\x01\x08\x1b\x7f",
    "\u00a0\u2028\u2029\ufeff",
    "zażółć gęślą jaźń",
    "漢字 العربية",
    "😀 👩‍👩‍👧‍👦 𝔘𝔫𝔦",
    "e\u0301 is not \u00e9",
    "\U0010ffff",
    "%s %(x)s {} $1",
]

TYPES: dict[str, list[str]] = {
    "bool": ["t", "f"],
    "int2": ["-32768", "32767"],
    "int8": ["-9223372036854775808", "9223372036854775807"],
    "float4": ["NaN", "Infinity", "-Infinity", "1e-45", "-0", "3.4028235e38", "0.1"],
    "float8": ["NaN", "Infinity", "-Infinity", "5e-324", "-0", "1.7976931348623157e308", "0.1"],
    "numeric": ["NaN", "Infinity", "-Infinity", "0.0000", "-1e-1000", "123456789012345678901.50"],
    "numeric(10,3)": ["1.5", "-0.001"],
    "money": ["$1,234.56", "-$0.01"],
    "text": AWKWARD_TEXTS,
    "varchar(12)": ["", " a ", "b\n"],
    "char(5)": ["", "ab", "a b"],
    '"char"': ["a", "", "\\377"],
    "name": ["a name", "Größe"],
    "bytea": ["\\x", "\\x000aff5c2e0d22", "\\x5c2e"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": [
        "null",
        "true",
        '{"a": null, "a": "twice"}',
        ' {"kept" :\n\t[1 ,  2.50, 1e3]} ',
        '"\\u0000 \\ud83d\\ude00 \\"\\\\"',
        '{"é": "😀"}',
        '""',
    ],
    "jsonb": [
        "null",
        "false",
        '{"b": 1.50, "a": [null, "x\\ny"]}',
        '"\\u00e9 \\ud83d\\ude00"',
        "{}",
    ],
    "jsonpath": ['$."a"[*] ? (@ > 1)', "strict $.**{2 to last}"],
    "date": ["infinity", "-infinity", "0044-03-15 BC", "0099-01-02", "5874897-12-31", "2024-02-03"],
    "time": ["00:00", "24:00", "12:34:56.789012"],
    "timetz": ["12:34:56.789012+05:45", "24:00-15:59"],
    "timestamp": ["infinity", "4713-11-24 00:00 BC", "294276-12-31 23:59:59.999999", "2024-02-03"],
    "timestamptz": [
        "infinity",
        "-infinity",
        "2024-10-27 01:30:00 Europe/Berlin",
        "2024-03-31 01:00:00.000001+00",
        "0001-01-01 00:00+00 BC",
    ],
    "interval": [
        "-1 year -2 mons +3 days -04:05:06.000007",
        "1 mon -1 day",
        "0",
        "178000000 years",
        "-00:00:00.000001",
    ],
    "inet": ["10.1.2.3", "10.1.2.3/8", "::1", "2001:db8::/32"],
    "cidr": ["10.0.0.0/8", "192.168.1.1/32", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(9)": ["000000001", "111111111"],
    "varbit": ["", "101"],
    "point": ["(1.5,-0)", "(NaN,Infinity)"],
    "line": ["{1,2,3}"],
    "lseg": ["[(0,0),(1,1e-300)]"],
    "box": ["(1,1),(0,0)"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "polygon": ["((0,0),(1,1),(2,0.1))"],
    "circle": ["<(0.1,0),1>"],
    "tsvector": ["'a':1A 'it''s':2,3B 'q\"\\\\x':4", ""],
    "tsquery": ["'a' & !('b' <-> 'c':*A)"],
    "pg_lsn": ["16/B374D848"],
    "xid8": ["18446744073709551615"],
    "xid": ["4294967295"],
    "tid": ["(4294967295,65535)"],
    "pg_snapshot": ["10:20:10,14,15"],
    "oid": ["4294967295"],
    "regclass": ["pg_class", 'public."Odd, ""name"""', "-"],
    "regtype": ["timestamptz", "public.vector", "double precision[]"],
    "regprocedure": ["pg_catalog.lower(text)"],
    "regrole": ["postgres"],
    "vector(3)": ["[1,-0,3.4e38]", "[1e-45,0.1,-2]"],
    "vector": ["[1]", "[1,2,3,4]"],
    "halfvec(2)": ["[65504,-0.00006]"],
    "sparsevec(1000)": ["{}/1000", "{1:0.1,1000:-2}/1000"],
    "int4[]": ["{}", "{NULL,1}", "[0:1]={7,8}", "{{1,2},{3,4}}"],
    "text[]": ["{}", '{NULL,"NULL","", "a\\"b\\\\", "x,y", " ", "l\n"}'],
    "vector(2)[]": ['{"[1,2]",NULL}'],
    "jsonb[]": ['{"{\\"a\\": \\"b,c\\"}"}'],
    "mood": ["sad", 'so "so", (la la)', "größer", "l\n"],
    "mood[]": ['{sad,"so \\"so\\", (la la)"}'],
    "short": ["a", 'q"q'],
    "moods": ["{sad,sad}"],
    "pair": ['(1,"a,\\"b\\" ","[1,2]")', "(,,)", '(2,"",)'],
    "pair[]": ['{"(1,\\"a \\\\\\"b\\\\\\"\\",\\"[3,4]\\")",NULL}'],
    "nested": ['("{""(1,x,\\\\""[1,2]\\\\"")""}",sad)'],
    "int4range": ["empty", "(,)", "[1,5)"],
    "tstzrange": ['["2024-01-01 00:00+02",infinity)'],
    "span": ["[0.1,0.2)", "(-Infinity,NaN]"],
    "nummultirange": ["{}", "{[1.10,2),(3,)}"],
    "spans": ["{[1,2),[3,4)}"],
}
_USER_TYPES = r'''
    CREATE TABLE "Odd, ""name""" ();
    CREATE TYPE mood AS ENUM ('sad', 'so "so", (la la)', 'größer', E'l\n');
    CREATE DOMAIN short AS varchar(4) CHECK (VALUE <> '');
    CREATE DOMAIN moods AS mood[];
    CREATE TYPE pair AS (n int, label text, v vector(2));
    CREATE TYPE nested AS (pairs pair[], how mood);
'''
# A restore does not recreate range types.
RANGE_TYPE = "CREATE TYPE span AS RANGE (subtype = float8, multirange_type_name = spans)"


def make_table_of_every_type(database: Database) -> None:
    """Column `c{i}` has the i-th type. A row of NULLs, and rows until each value occurs."""
    database.run(_USER_TYPES)
    database.run(RANGE_TYPE)
    columns = ", ".join(f"c{i} {type_name}" for i, type_name in enumerate(TYPES))
    database.run(f"CREATE TABLE every_type ({columns})")
    columns_of_values = [[None, *values] for values in TYPES.values()]
    types = list(TYPES)
    holders = ", ".join(f"%s::{type_name}" for type_name in types)
    for row in range(max(map(len, columns_of_values)) + 1):
        database.run(
            f"INSERT INTO every_type VALUES ({holders})",
            [values[row % len(values)] for values in columns_of_values],
        )


def test_every_type_comes_back(any_database: Database, round_trip: MakeRoundTrip) -> None:
    make_table_of_every_type(any_database)

    made = round_trip(any_database)("every_type")

    assert made.file("every_type").rows == len(AWKWARD_TEXTS) + 2


@pytest.mark.parametrize(
    "settings",
    [
        {
            "DateStyle": "German",
            "IntervalStyle": "iso_8601",
            "bytea_output": "escape",
            "extra_float_digits": "0",
            "lc_monetary": "C.utf8",
            "TimeZone": "Asia/Kathmandu",
            "statement_timeout": "60s",
            "default_transaction_isolation": "serializable",
            "quote_all_identifiers": "on",
            "standard_conforming_strings": "off",
            "search_path": '"$user", public',
        },
        {
            "DateStyle": "SQL, DMY",
            "IntervalStyle": "sql_standard",
            "extra_float_digits": "-15",
            "TimeZone": "America/St_Johns",
            "client_encoding": "LATIN1",
            "row_security": "on",
            "default_transaction_read_only": "off",
        },
    ],
    ids=lambda settings: settings["DateStyle"],
)
def test_a_file_does_not_depend_on_the_databases_settings_nor_does_its_loading(
    database: Database, round_trip: MakeRoundTrip, settings: dict[str, str]
) -> None:
    make_table_of_every_type(database)
    trip = round_trip(database)
    usual = trip.export("every_type").path("every_type").read_bytes()
    for name, value in settings.items():
        value = value if name == "search_path" else f"'{value}'"
        database.run(f"ALTER DATABASE {database.name} SET {name} = {value}")

    made = trip("every_type")

    assert made.path("every_type").read_bytes() == usual


def make_texts(database: Database, table: str, definition: str = "value text") -> None:
    database.run(f"CREATE TABLE {table} ({definition})")
    for text in [*AWKWARD_TEXTS, None]:
        database.run(f"INSERT INTO {table} (value) VALUES (%s)", [text])


def test_a_sole_column_of_awkward_texts_comes_back(
    database: Database, round_trip: MakeRoundTrip
) -> None:
    make_texts(database, "sole")

    made = round_trip(database)("sole")

    assert rows_in(made.path("sole")).count(b"") == 1  # NULL alone is an empty record,
    assert rows_in(made.path("sole")).count(b'""') == 1  # the empty string is not.


LINES_OF_COPY = [("above\n\\.\nbelow",), ("\\.\n",), ("after",)]


def test_a_line_that_ends_copys_text_format_does_not_end_a_csv_file(
    any_database: Database, round_trip: MakeRoundTrip
) -> None:
    any_database.run("CREATE TABLE lines (value text); CREATE TABLE restored (LIKE lines)")
    for line in LINES_OF_COPY:
        any_database.run("INSERT INTO lines VALUES (%s)", line)
    trip = round_trip(any_database)
    made = trip.export("lines")

    # Every server version reads it, and psql from 18 on.
    with any_database.session() as connection, connection.cursor() as cursor:
        with made.path("lines").open("rb") as file:
            cursor.copy_expert("COPY restored FROM STDIN (FORMAT csv, HEADER)", file)
        connection.commit()

    assert any_database.ask("SELECT * FROM restored") == LINES_OF_COPY
    if any_database.server.version >= 18:
        trip("lines")
    else:
        with pytest.raises(CalledProcessError):  # An older psql stops there with an error.
            trip("lines")


def test_generated_columns_are_left_out_and_made_again(
    database: Database, round_trip: MakeRoundTrip
) -> None:
    database.run(
        "CREATE TABLE made_up (a text, total int GENERATED ALWAYS AS (b * 2) STORED, gone int,"
        " b int, id int GENERATED ALWAYS AS IDENTITY, v int GENERATED ALWAYS AS (b * 10) VIRTUAL)"
    )
    database.run("ALTER TABLE made_up DROP COLUMN gone")
    database.run("INSERT INTO made_up (a, b) SELECT 'x', i FROM generate_series(1, 5) i")

    made = round_trip(database)("made_up")

    assert made.path("made_up").read_text().splitlines()[:2] == ["a,b,id", "x,1,1"]


def test_a_row_larger_than_a_fetch_comes_back(
    database: Database, round_trip: MakeRoundTrip
) -> None:
    database.run("CREATE TABLE wide (id int, value text)")
    database.run("ALTER TABLE wide ALTER value SET STORAGE EXTERNAL")
    database.run("""INSERT INTO wide VALUES (1, repeat('wide "row"', 6000000 / 10))""")

    round_trip(database)("wide")


def test_a_bare_name_is_looked_up_on_the_connections_own_search_path(
    database: Database, backup: BackupMaker
) -> None:
    database.run(
        "CREATE SCHEMA tenant; CREATE TABLE tenant.docs (id int);"
        "INSERT INTO tenant.docs VALUES (1), (2); CREATE TABLE docs (id int)"
    )
    role = f"path_of_{database.name}"
    url = database.create_role(role)
    database.run(f"GRANT USAGE ON SCHEMA tenant TO {role}; GRANT SELECT ON tenant.docs TO {role}")
    database.run(f"ALTER ROLE {role} SET search_path = nowhere, tenant, public")

    made = backup(url, tables=("docs",))

    assert made.error is None
    assert made.file("docs").name == f"tenant.docs_{made.stamp}.csv"
    assert rows_in(made.path("docs")) == [b"1", b"2"]


PARTITIONED = """
    CREATE TABLE parts (id int NOT NULL, region text, day date, v vector(2))
        PARTITION BY LIST (region);
    CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY RANGE (day);
    CREATE TABLE parts_eu_1 PARTITION OF parts_eu FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
    CREATE TABLE parts_eu_rest PARTITION OF parts_eu DEFAULT PARTITION BY HASH (id);
    CREATE SCHEMA leaves;
    CREATE TABLE leaves.h0 PARTITION OF parts_eu_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE leaves.h1 PARTITION OF parts_eu_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE parts_us (gone int, v vector(2), day date, region text, id int NOT NULL);
    ALTER TABLE parts_us DROP COLUMN gone;
    ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
    CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
    INSERT INTO parts SELECT i, (ARRAY['eu', 'us', 'asia', NULL])[i % 4 + 1],
        '2023-06-01'::date + i, ARRAY[i, -i]::vector FROM generate_series(1, 800) i;
"""


@pytest.mark.usefixtures("small_ranges")
def test_every_leaf_of_a_partitioned_table_is_in_its_one_file(
    any_database: Database, round_trip: MakeRoundTrip
) -> None:
    any_database.run(PARTITIONED)
    trip = round_trip(any_database)

    trip("parts")
    made = trip.export("parts", workers=4)

    assert made.file("parts").rows == 800
    assert {relation.name for relation in made.manifest.tables[0].relations} == {
        "parts_eu_1",
        "h0",
        "h1",
        "parts_us",
        "parts_rest",
    }


def test_leaves_that_the_role_may_not_read_are_read_through_their_parent(
    database: Database, backup: BackupMaker
) -> None:
    database.run(PARTITIONED)
    role = f"reads_parent_of_{database.name}"
    url = database.create_role(role)
    database.run(f"GRANT SELECT ON parts TO {role}")

    made = [backup(url, tables=("parts",), export_method=method) for method in METHODS]
    whole = backup(database.url, tables=("parts",))

    for finished in made:
        assert finished.error is None
        assert finished.file("parts").digest == whole.file("parts").digest
    assert [relation.name for relation in made[0].manifest.tables[0].relations] == ["parts"]


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("CREATE TABLE t (id int, v vector(3))", id="empty"),
        pytest.param(
            "CREATE UNLOGGED TABLE t (id int, v vector(3)); INSERT INTO t VALUES (1, '[1,2,3]')",
            id="unlogged and never analysed",
        ),
        pytest.param(
            """CREATE TABLE t (id int PRIMARY KEY, n int) WITH (fillfactor = 20);
               INSERT INTO t SELECT i, i FROM generate_series(1, 3000) i;
               UPDATE t SET n = n + 1; UPDATE t SET n = n * 2 WHERE id % 3 = 0;
               DELETE FROM t WHERE id % 2 = 0""",
            id="dead rows and HOT updates",
        ),
        pytest.param(
            """CREATE TABLE t (id int, n text); INSERT INTO t SELECT i, repeat('x', 99)
               FROM generate_series(1, 3000) i; ANALYZE t; DELETE FROM t""",
            id="emptied, its blocks still there",
        ),
        pytest.param(
            """CREATE TABLE t (id int, n text); ALTER TABLE t ADD later text DEFAULT 'later, "so"';
               INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ADD even_later int DEFAULT 7;
               ALTER TABLE t DROP COLUMN n, ALTER id TYPE bigint""",
            id="altered since its rows were written",
        ),
    ],
)
@pytest.mark.usefixtures("small_ranges")
def test_whatever_a_tables_storage_looks_like_its_rows_come_back(
    database: Database, round_trip: MakeRoundTrip, statements: str
) -> None:
    database.run(statements)
    trip = round_trip(database)

    made = trip("t")
    spread = trip.export("t", workers=4)

    assert sorted(rows_in(spread.path("t"))) == sorted(rows_in(made.path("t")))
    assert spread.file("t").digest == made.file("t").digest


@pytest.mark.parametrize("method", METHODS)
def test_a_file_is_utf_8_with_any_encoding_of_the_database(
    server18: EmbeddedServer, backup: BackupMaker, method: str
) -> None:
    name = f"latin1_{method}"
    database = Database(server18, name)
    maintenance = Database(server18, "postgres")
    maintenance.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        database.run('CREATE TABLE "größe" ("weiß" text)')
        database.run('INSERT INTO "größe" VALUES (%s)', ["Grüße, café £ ÿ"])

        made = backup(database.url, tables=("größe",), export_method=method)

        assert made.error is None
        assert made.path("größe").read_text("utf-8") == 'weiß\n"Grüße, café £ ÿ"\n'
        RoundTrip(database, backup)("größe")
    finally:
        drop_database(server18, name)
