"""Whatever rows there are, both methods write the same file, and it makes the same rows again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2.extras import execute_values

from vector_backup_pipeline.engine.backup.export import ExportedFile, export_table
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.snapshot import pin_snapshot
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.types import ExportMethod
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_rows import METHODS, RoundTrip, digest_of, rows_in

# The table is emptied for each example, so that they may share it.
EXAMPLES = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = itertools.count()

texts = st.one_of(
    st.text(alphabet=st.sampled_from('a ",\n\r\\.N\t\x01é😀')),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
floats = st.floats().map(repr)
single_floats = st.floats(width=32).map(repr)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        texts,
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
spelled = st.builds(
    lambda document, ascii_only, indent: json.dumps(
        document, ensure_ascii=ascii_only, indent=indent
    ),
    documents,
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
)
moments = st.datetimes(
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
).filter(lambda moment: 2 < moment.year < 9998)

COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "varchar": texts,
    "char(3)": st.text(alphabet='a ,"é', max_size=3),
    "json": spelled,
    "jsonb": spelled,
    "float4": single_floats,
    "float8": floats,
    "numeric": st.one_of(
        st.sampled_from(["NaN", "Infinity", "-Infinity"]),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
    ),
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "bool": st.booleans().map(str),
    "bytea": st.binary(max_size=40).map(lambda data: "\\x" + data.hex()),
    "timestamptz": moments.map(str),
    "interval": st.builds(
        "{} mons {} days {} microseconds".format,
        st.integers(-1000, 1000),
        st.integers(-1000, 1000),
        st.integers(-(10**12), 10**12),
    ),
    "varbit": st.text(alphabet="01", max_size=20),
    "vector(3)": st.lists(finite, min_size=3, max_size=3).map(str),
    "vector": st.lists(finite, min_size=1, max_size=5).map(str),
    "text[]": st.lists(st.one_of(st.none(), texts), max_size=3),
    "float8[]": st.lists(st.floats(), max_size=3).map(lambda values: [repr(v) for v in values]),
}
ROW = st.tuples(*(st.one_of(st.none(), values) for values in COLUMNS.values()))


@dataclass
class Table:
    """An empty table of the given types, filled anew for each example."""

    database: Database
    directory: Path
    types: Sequence[str]
    _settings: ConnectionSettings = field(init=False)

    def __post_init__(self) -> None:
        self._settings = ConnectionSettings.from_installation(SecretText(self.database.url), "test")
        columns = ", ".join(f"c{n} {name}" for n, name in enumerate(self.types))
        self.database.run(f"CREATE TABLE t ({columns}); CREATE TABLE restored ({columns})")

    def fill(self, rows: Sequence[Sequence[Any]]) -> None:
        template = "(" + ", ".join(f"%s::{name}" for name in self.types) + ")"
        with self.database.session() as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE t, restored")
            execute_values(cursor, "INSERT INTO t VALUES %s", rows, template)
            connection.commit()

    def export(self, name: str = "t", method: ExportMethod = "copy") -> tuple[Path, ExportedFile]:
        pinned = pin_snapshot(self._settings, [name], [], workers=1, lock_timeout=2)
        with closing(pinned):
            stored = export_table(
                pinned,
                pinned.tables[name],
                BackupDirectory(LocalStore(self.directory)),
                f"{next(NUMBERS)}.csv",
                BackupParameters(export_method=method, batch_size=3),
                lambda _: None,
            )
        return self.directory / stored.name, stored

    def load(self, path: Path) -> None:
        with self.database.session() as connection, connection.cursor() as cursor:
            connection.set_client_encoding("UTF8")
            data = BytesIO(path.read_bytes())
            cursor.copy_expert("COPY restored FROM STDIN (FORMAT csv, HEADER)", data)
            connection.commit()


def assert_comes_back(table: Table, rows: Sequence[Sequence[Any]]) -> None:
    table.fill(rows)
    (path, stored), (other, fetched) = (table.export(method=method) for method in METHODS)
    assert path.read_bytes() == other.read_bytes()
    assert stored.rows == fetched.rows == len(rows)
    assert stored.digest == fetched.digest == int(digest_of(rows_in(path)), 16)
    table.load(path)
    RoundTrip(table.database, backup=None).assert_same_rows("t", "restored")  # type: ignore[arg-type]
    assert table.export("restored")[1].digest == stored.digest


@pytest.fixture
def wide(any_database: Database, tmp_path: Path) -> Iterator[Table]:
    yield Table(any_database, tmp_path, list(COLUMNS))


@pytest.fixture
def sole(any_database: Database, tmp_path: Path) -> Iterator[Table]:
    yield Table(any_database, tmp_path, ["text"])


@EXAMPLES
@given(rows=st.lists(ROW, min_size=1, max_size=5))
def test_rows_of_many_types_come_back(wide: Table, rows: list[tuple[Any, ...]]) -> None:
    assert_comes_back(wide, rows)


@EXAMPLES
@given(rows=st.lists(st.tuples(st.one_of(st.none(), texts)), min_size=1, max_size=8))
@example(rows=[(None,), ("",), ("\\.",), ("\n",), ("\r",)])
def test_a_sole_column_of_any_text_comes_back(sole: Table, rows: list[tuple[str | None]]) -> None:
    assert_comes_back(sole, rows)
