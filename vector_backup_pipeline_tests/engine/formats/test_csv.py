"""CSV records, byte for byte as PostgreSQL's own COPY writes them."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extras import execute_values

from vector_backup_pipeline.engine.formats.csv import csv_fields, csv_record
from vector_backup_pipeline_tests.fix_postgres import Database

VALUES = st.one_of(st.none(), st.text(alphabet=st.sampled_from('a ",\n\r\\.N\té😀')), st.text())


@pytest.mark.parametrize("width", [1, 2])
def test_the_server_writes_the_same_bytes(any_database: Database, width: int) -> None:
    pieces = ["", " ", '"', ",", "\n", "\r", "\\.", "\\", "\t", ".", "é", "😀", "a"]
    texts: list[str | None] = [None, *(a + b for a in pieces for b in pieces)]
    rows = [[text, *["x\ny"] * (width - 1)] for text in texts]
    columns = [f"c{n}" for n in range(width)]
    any_database.run(f"CREATE TABLE texts ({', '.join(f'{name} text' for name in columns)})")
    received = BytesIO()

    with any_database.session() as connection, connection.cursor() as cursor:
        execute_values(cursor, "INSERT INTO texts VALUES %s", rows)
        cursor.copy_expert("COPY texts TO STDOUT (FORMAT csv)", received)

    assert received.getvalue() == b"".join(csv_record(row) for row in rows)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_a_records_values_are_read_back(values: list[str | None]) -> None:
    assert csv_fields(csv_record(values).decode()) == values


def test_a_value_of_any_length_is_read() -> None:
    long = 'a "quoted", word\n' * 100_000

    assert csv_fields(csv_record([long, None, "x"]).decode()) == [long, None, "x"]
