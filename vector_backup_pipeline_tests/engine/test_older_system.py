"""Files of the older system are read as csv.writer wrote them, or refused with line numbers."""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine import older_system
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.older_system import (
    OlderFile,
    as_csv_records,
    examine_file,
    read_header,
    read_rows,
)
from vector_backup_pipeline.engine.storage import store
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore

NAME = "langchain_pg_embedding_20250102_030405.csv"
# Values of a text column.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NASTY = st.text(st.sampled_from('a,"\n\r\\é😀 '), max_size=9)
ROWS = st.lists(st.tuples(*[st.one_of(st.none(), TEXTS, NASTY)] * 3))


def written(rows: Iterable[Sequence[Any]]) -> bytes:
    """Written with Python's defaults, as the older system did."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


class Older:
    """The older file of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = BackupDirectory(LocalStore(path))

    def write(self, data: bytes) -> None:
        (self.path / NAME).write_bytes(data)

    def rows(self) -> list[tuple[int, list[str]]]:
        return list(read_rows(self.directory, NAME))

    def examine(self, *json_columns: str) -> OlderFile:
        return examine_file(self.directory, NAME, json_columns)

    def faults(self, *json_columns: str) -> list[str]:
        """The unreadable rows; checks that the error names the first one."""
        examination = self.examine(*json_columns)
        assert examination.unreadable_count == len(examination.unreadable)
        faults = [f"line {row.line}: {row.reason}" for row in examination.unreadable]
        with pytest.raises(IntegrityError) as raised:
            examination.check_readable(self.directory)
        assert NAME in raised.value.message
        assert faults[0] in raised.value.message
        return faults


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Older:
    return Older(tmp_path_factory.mktemp("older"))


@given(ROWS)
def test_every_row_that_csv_writer_writes_is_read_again(older: Older, rows: list[Any]) -> None:
    older.write(written([("id", "document", "cmetadata"), *rows]))

    assert read_header(older.directory, NAME) == ("id", "document", "cmetadata")
    read = older.rows()
    assert [fields for _, fields in read] == [[text or "" for text in row] for row in rows]
    data = (older.path / NAME).read_bytes()
    lines = data.split(b"\n")
    for line, fields in read:
        begin = written([fields]).split(b"\n")[0]
        assert lines[line - 1] == begin
    examination = older.examine()
    file, columns = examination.file, ["id", "document", "cmetadata"]
    assert (file.digest.columns, file.rows) == (columns, len(rows))
    assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    examination.check_readable(older.directory)
    # Line ends that a file transfer changed make no difference.
    older.write(b"".join(written([row])[:-2] + b"\n" for row in [columns, *rows]))
    assert older.rows() == read


@given(ROWS, st.integers(1, 30))
def test_chunks_may_be_cut_anywhere(older: Older, rows: list[Any], size: int) -> None:
    older.write(written([("a", "b", "c"), *rows]))
    whole = older.rows()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "CHUNK_BYTES", size)
        assert older.rows() == whole


def test_one_column_and_a_long_value_are_read(older: Older) -> None:
    long = "x" * 1_000_000 + ',"\n' * 1000

    older.write(written([("document",), ("",), (long,), ("a",)]))

    assert [fields for _, fields in older.rows()] == [[""], [long], ["a"]]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (b"1,a\r\n2\r\n3,c\r\n", "line 3: 1 values where the header has 2 columns"),
        (b"1,a,b\r\n", "line 2: 3 values where the header has 2 columns"),
        (b"1,a\r\n\r\n", "line 3: 0 values"),
        (b'1,a"b\r\n2,b\r\n', "line 2: a stray quote"),
        (b'"1"x,a\r\n', "line 2: no valid CSV"),
        (b'1,"a" \r\n', "line 2: no valid CSV"),
        (b"1,a\rb\r\n", "line 2: no valid CSV"),
        (b"1,\0\r\n", "line 2: a zero byte"),
        (b"1,a\r\n2,\xff\r\n", "line 3: bytes that are not UTF-8"),
        (b'1,"a\n\xc3"\r\n', "line 2: bytes that are not UTF-8"),
        (b"1,a\r\n2,b", "line 3: the file ends in the middle of this row"),
        (b"1,a\r\n2,b\r", "line 3: the file ends in the middle of this row"),
        (b'1,a\r\n2,"b', "line 3: no valid CSV: unexpected end of data"),
        (b'1,a\r\n2,"b\r\n', "line 3: no valid CSV: unexpected end of data"),
        (b'1,a\r\n2,"b"', "line 3: the file ends in the middle of this row"),
        (b'1,"a\r\n2,b\r\n3,"c"\r\n4,d\r\n', "line 2: no valid CSV"),
    ],
)
def test_what_csv_writer_does_not_write_is_reported_by_its_line(
    older: Older, rows: bytes, fault: str
) -> None:
    older.write(b"id,document\r\n" + rows)

    (reported,) = older.faults()

    assert reported.startswith(fault)
    with pytest.raises(IntegrityError, match=fault[:6]):
        older.rows()


def test_after_a_bad_row_the_next_ones_are_still_looked_at(older: Older) -> None:
    older.write(b'id,document\r\n1\r\n2,"b\nb"\r\n3,c"c\r\n4,d\r\n5\r\n')

    assert [fault.partition(":")[0] for fault in older.faults()] == ["line 2", "line 5", "line 7"]


@pytest.mark.parametrize("data", [b"", b"id,docu", b"\r\n", b"id,id\r\n", b"id,\r\n"])
def test_a_file_without_a_header_is_refused(older: Older, data: bytes) -> None:
    older.write(data)

    for read in (
        lambda: older.examine().check_readable(older.directory),
        older.rows,
        lambda: read_header(older.directory, NAME),
    ):
        with pytest.raises(IntegrityError, match="line 1: "):
            read()


def test_a_quote_that_nothing_closes_does_not_fill_the_memory(
    older: Older, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(older_system, "LONGEST_RECORD", 1000)
    older.write(b'id,document\r\n1,"a\r\n' + b"2,b\r\n" * 400)

    (fault,) = older.faults()

    assert fault.startswith("line 2: no valid CSV: field larger than field limit")


def test_json_that_is_none_is_named_by_line_and_column(older: Older) -> None:
    older.write(
        written(
            [
                ("id", "cmetadata"),
                ("{", {"a": None}),
                ("2", "{'a': "),
                ("3", None),
                ("4", {"a": {1, 2}}),
            ]
        )
    )

    assert older.examine().unreadable_count == 0
    (first, second) = older.faults("cmetadata", "not_there")
    assert first.startswith("line 3: column cmetadata has no JSON: ")
    assert second.startswith("line 5: column cmetadata has no JSON: ")


def test_json_that_can_not_be_is_refused_on_the_way_too() -> None:
    records = as_csv_records([(7, ["{1: 2}"])], ["cmetadata"], {"cmetadata"}, set())

    with pytest.raises(IntegrityError, match="line 7: column cmetadata"):
        list(records)
