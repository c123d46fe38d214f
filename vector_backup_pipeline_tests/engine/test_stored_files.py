"""Stored files are verified down to their rows in every format; errors name the difference."""

import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.manifest import Block, DataFile
from vector_backup_pipeline.engine.storage import store
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.stored_files import (
    check_rows,
    contradiction,
    read_blocks,
    read_header,
    unpack,
    unpack_rows,
)
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS, Compression, Format
from vector_backup_pipeline_tests.fix_sets import stored_file

COLUMNS = ["id", 'say "hi",\nthen go']
RECORDS: dict[Format, list[bytes]] = {
    "csv": [csv_record([str(n), f"line\n{n}" if n % 3 else 'a "b"']) for n in range(100)],
    "binary": [struct.pack(">Hi", 2, 4) + struct.pack(">ii", n, -1) for n in range(100)],
}
FORMS = [(form, compression) for form in FORMATS for compression in COMPRESSIONS]


@pytest.fixture(params=FORMS, ids="-".join)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> DataFile:
    """An intact file of 100 rows in four blocks."""
    form, compression = request.param
    return make(tmp_path, form, compression)


def make(path: Path, form: Format, compression: Compression) -> DataFile:
    return stored_file(path / "t_20250102_030405.x", COLUMNS, RECORDS[form], 30, form, compression)


def faults(path: Path, file: DataFile, **changes: Any) -> str:
    with pytest.raises(IntegrityError) as raised:
        check_rows(BackupDirectory(LocalStore(path)), file.model_copy(update=changes))
    message = raised.value.message
    assert f"{path}/{file.name} is damaged" in message
    assert "make a new backup" in message
    return message


def rows_of(directory: BackupDirectory, file: DataFile) -> list[bytes]:
    blocks = (unpack_rows(directory, file, plain) for _, plain in read_blocks(directory, file))
    return [row for block in blocks for rows in block for row in rows]


def read_block(path: Path, file: DataFile, block: Block) -> Iterator[bytes]:
    directory = BackupDirectory(LocalStore(path))
    stored = directory.read(file.name, block.offset, block.length)
    return unpack(directory, file, stored)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_an_intact_file_is_proven_and_read_in_any_chunks(
    tmp_path: Path, file: DataFile, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", chunk)
    directory = BackupDirectory(LocalStore(tmp_path))
    records = RECORDS[file.format]

    check_rows(directory, file)
    assert contradiction(file) is None
    line_end = 1 if file.format == "csv" else 0
    assert rows_of(directory, file) == [r[: len(r) - line_end] for r in records]
    assert b"".join(read_block(tmp_path, file, file.blocks[1])) == b"".join(records[30:60])
    assert len(read_header(directory, file)) == (25 if file.format == "csv" else 19)


def test_no_rows_are_proven_too(tmp_path: Path, file: DataFile) -> None:
    directory = BackupDirectory(LocalStore(tmp_path))
    empty = stored_file(tmp_path / "e.x", COLUMNS, [], 30, file.format, file.compression)

    check_rows(directory, empty)
    assert rows_of(directory, empty) == []
    assert read_header(directory, empty) == read_header(directory, file)


@pytest.mark.parametrize("columns", [[], ["only"]], ids=["no column", "one column"])
def test_empty_lines_are_rows(tmp_path: Path, columns: list[str]) -> None:
    file = stored_file(tmp_path / "t_20250102_030405.csv", columns, [b"\n"] * 5, 2)

    check_rows(BackupDirectory(LocalStore(tmp_path)), file)


def test_every_changed_byte_and_every_cut_is_detected(tmp_path: Path, file: DataFile) -> None:
    path = tmp_path / file.name
    whole = path.read_bytes()
    for at in range(0, len(whole), 17):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.write_bytes(changed)
        assert "SHA-256 is " in faults(tmp_path, file)
        path.write_bytes(whole[:at])
        message = faults(tmp_path, file)
        assert f"size in bytes is {at}, expected {len(whole)}" in message
        assert any(word in message for word in ("number of rows", "in the middle", "trailer"))


def test_a_lost_and_a_doubled_row_are_named(tmp_path: Path, file: DataFile) -> None:
    records = RECORDS[file.format]
    other = [*records[:50], *records[49:], records[0]]
    stored_file(tmp_path / file.name, COLUMNS, other, 30, file.format, file.compression)

    message = faults(tmp_path, file)

    assert "the number of rows is 102, expected 100" in message
    assert f"expected {file.digest.value}" in message


def test_another_manifest_is_detected(tmp_path: Path, file: DataFile) -> None:
    assert "the number of rows is 100, expected 101" in faults(tmp_path, file, rows=101)
    assert f"expected {'0' * 64}" in faults(tmp_path, file, sha256="0" * 64)
    assert "expected 1" in faults(tmp_path, file, bytes=1)
    digest = file.digest.model_copy(update={"columns": ["id", "b"], "value": "0" * 32})
    message = faults(tmp_path, file, digest=digest)
    assert f"expected {'0' * 32}" in message
    if file.format == "csv":
        assert "its first line does not name the manifest's columns" in message
        assert "then go" not in message, "it may be anything"


def test_another_block_index_is_detected(tmp_path: Path, file: DataFile) -> None:
    first, second, *others = file.blocks
    longer = first.model_copy(update={"length": first.length + 1})
    later = second.model_copy(update={"offset": second.offset + 1, "length": second.length - 1})
    more = first.model_copy(update={"rows": first.rows + 1})
    fewer = second.model_copy(update={"rows": second.rows - 1})
    begins = first.model_copy(update={"offset": first.offset + 1, "length": first.length - 1})
    for blocks, words in [
        ([longer, later, *others], ("block 1 does not end where a row ends",)),
        ([more, fewer, *others], ("30 rows end with block 1, expected 31",)),
        ([begins, second, *others], ("block 1 begins at byte", "the header does not end")),
        ([], ("the blocks end at byte", "block")),
        (file.blocks[:3], ("the blocks end at byte",)),
        (file.blocks[1:], ("block 1 begins at byte", "rows end with the header", "the blocks end")),
    ]:
        message = faults(tmp_path, file, blocks=blocks)
        assert any(word in message for word in words), message
        assert "SHA-256" not in message


def test_a_file_of_another_format_is_detected(tmp_path: Path) -> None:
    binary = make(tmp_path, "binary", "none")
    (tmp_path / binary.name).write_bytes(b"id,text\n" + b"".join(RECORDS["csv"]))

    assert "it does not begin as a binary COPY does" in faults(tmp_path, binary)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_block_that_can_not_be_decompressed_is_an_error(
    tmp_path: Path, compression: Compression
) -> None:
    file = make(tmp_path, "csv", compression)
    block = file.blocks[1]
    cut = block.model_copy(update={"length": block.length - 3})

    with pytest.raises(IntegrityError, match=r"t_20250102_030405.x cannot be read: .*the middle"):
        list(read_block(tmp_path, file, cut))
    data = bytearray((tmp_path / file.name).read_bytes())
    data[block.offset + 2] ^= 0xFF
    (tmp_path / file.name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"cannot be read: its compressed data is damaged"):
        list(read_block(tmp_path, file, block))


def test_memory_does_not_grow_with_the_file_even_when_a_quote_is_lost(tmp_path: Path) -> None:
    records = [csv_record([str(n), "x" * 1000]) for n in range(20_000)]
    file = stored_file(tmp_path / "t_20250102_030405.csv", ["a", "b"], records)
    data = bytearray((tmp_path / file.name).read_bytes())
    data[5000] = ord('"')
    (tmp_path / file.name).write_bytes(data)
    del records, data

    tracemalloc.start()
    message = faults(tmp_path, file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "never closed" in message
    assert "SHA-256" in message
    assert "size in bytes" not in message
    assert peak < 12 << 20
