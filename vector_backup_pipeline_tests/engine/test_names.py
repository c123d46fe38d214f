"""All operations work with any name of a schema, table, column or sequence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2.sql import SQL, Identifier, Literal

from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_checkup import Checker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_prune import prune_root
from vector_backup_pipeline_tests.fix_restore import RestoreMaker
from vector_backup_pipeline_tests.fix_rows import quoted
from vector_backup_pipeline_tests.fix_verify import verify_root

LONGEST = 63  # NAMEDATALEN - 1, in bytes
WORST = '%s 100%%(a)s "ü".\'{}😀'


def _cut(text: str) -> str:
    return text.encode()[:LONGEST].decode(errors="ignore")


names = st.text(st.sampled_from("a%s()'\". é😀\\{}[]/;:$?*-"), min_size=1).map(_cut) | st.text(
    st.sampled_from("%é/"), min_size=LONGEST
).map(_cut)


@contextmanager
def _table(database: Database, schema: str, name: str, column: str) -> Iterator[None]:
    """A table of five rows; its sequence, index, check and comment contain the names."""
    parts = {
        "table": Identifier(schema, name),
        "schema": Identifier(schema),
        "column": Identifier(column),
        "text": Literal(name),
        "other": Identifier(_cut("i" + name)),
    }
    with database.session() as session, session.cursor() as cursor:
        cursor.execute(
            SQL("""
                CREATE SCHEMA IF NOT EXISTS {schema};
                CREATE TABLE {table} ({column} bigserial PRIMARY KEY,
                    body text DEFAULT {text} CHECK (body <> '%s'), "vector%" vector(3),
                    rest bigint GENERATED ALWAYS AS ({column} % 7) STORED);
                CREATE UNIQUE INDEX ON {table} (({column} % 1000)) WHERE {column} % 2 < 2;
                CREATE POLICY {other} ON {table} USING ({column} % 2 < 2);
                ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
                CREATE INDEX {other} ON {table} USING hnsw ("vector%" vector_l2_ops);
                COMMENT ON TABLE {table} IS {text};
                INSERT INTO {table} ("vector%") SELECT '[1,2,3]' FROM generate_series(1, 5)
            """).format(**parts)
        )
        session.commit()
        try:
            yield
        finally:
            cursor.execute(SQL("DROP TABLE IF EXISTS {table}, public.renamed").format(**parts))
            session.commit()


@settings(
    max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(schema=st.just("public") | names, name=names, column=names)
@example(schema="public", name=WORST, column=WORST)
@example(schema="%/" * 31, name="%" * LONGEST, column="%" * LONGEST)
def test_all_operations_work_with_a_table_of_any_name(
    database: Database, schema: str, name: str, column: str
) -> None:
    if schema.startswith("pg_") or column in ("body", "vector%", "rest"):
        return
    table = f"{quoted(schema)}.{quoted(name)}"
    with TemporaryDirectory() as directory, _table(database, schema, name, column):
        root = Path(directory)
        backup, restore = BackupMaker(root), RestoreMaker(root)
        report = Checker(root)(database.url, tables=(table,), truncate_tables=(table,))
        for check in (f"tables: {table}", f"tables: truncate {table}"):
            assert report[check].status == "ok"

        made = backup(
            database.url, tables=(table,), truncate_tables=(table,), truncate_vector_tables=True
        )
        assert made.error is None
        restore.succeeds(database)
        restore.fails(database, "DATABASE_ERROR")
        restore.succeeds(database, on_conflict="skip")
        restore.succeeds(database, on_conflict="replace")
        restore.succeeds(database, truncate_before_restore=True)
        assert database.ask_one(f"SELECT count(*) FROM {table}") == 5  # noqa: S608
        restore.succeeds(database, rename={table: "public.renamed"}, probes=1)
        database.run(f"DROP TABLE {table}")
        restore.succeeds(database)
        database.run(f'INSERT INTO {table} ("vector%") VALUES (NULL)')  # noqa: S608

        assert backup(database.url, tables=(table,)).error is None
        assert verify_root(root).verified
        assert prune_root(root, include_truncated=True).location.removed[0].timestamp == made.stamp
