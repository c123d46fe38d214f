"""A stored table is proven in every form, and what differs is told in each."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.manifest import Block, DataFile
from vector_backup_pipeline.engine.storage import local
from vector_backup_pipeline.engine.storage.local import LocalDirectory
from vector_backup_pipeline.engine.stored_files import (
    check_rows,
    contradiction,
    read_block,
    read_header,
    read_rows,
)
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS, Compression, Format
from vector_backup_pipeline_tests.fix_sets import stored_file

COLUMNS = ["id", "text"]
RECORDS: dict[Format, list[bytes]] = {
    "csv": [csv_record([str(n), f"line\n{n}" if n % 3 else 'a "b"']) for n in range(100)],
    "binary": [struct.pack(">Hi", 2, 4) + struct.pack(">ii", n, -1) for n in range(100)],
}
FORMS = [(form, compression) for form in FORMATS for compression in COMPRESSIONS]


@pytest.fixture(params=FORMS, ids="-".join)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> DataFile:
    """A sound file of 100 rows in four blocks."""
    form, compression = request.param
    return make(tmp_path, form, compression)


def make(path: Path, form: Format, compression: Compression) -> DataFile:
    return stored_file(path / "t_20250102_030405.x", COLUMNS, RECORDS[form], 30, form, compression)


def faults(path: Path, file: DataFile) -> str:
    with pytest.raises(IntegrityError) as raised:
        check_rows(LocalDirectory(path), file)
    return raised.value.message


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_sound_file_is_proven_and_read_whatever_its_chunks(
    tmp_path: Path, file: DataFile, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "READ_BYTES", chunk)
    directory = LocalDirectory(tmp_path)
    records = RECORDS[file.format]

    check_rows(directory, file)
    assert contradiction(file) is None
    line_end = 1 if file.format == "csv" else 0
    assert list(read_rows(directory, file)) == [r[: len(r) - line_end] for r in records]
    assert b"".join(read_block(directory, file, file.blocks[1])) == b"".join(records[30:60])
    assert len(read_header(directory, file)) == (8 if file.format == "csv" else 19)


def test_no_rows_are_proven_too(tmp_path: Path, file: DataFile) -> None:
    empty = stored_file(tmp_path / "e.x", COLUMNS, [], 30, file.format, file.compression)

    check_rows(LocalDirectory(tmp_path), empty)
    assert list(read_rows(LocalDirectory(tmp_path), empty)) == []
    assert read_header(LocalDirectory(tmp_path), empty) == read_header(
        LocalDirectory(tmp_path), file
    )


def test_every_changed_byte_is_found(tmp_path: Path, file: DataFile) -> None:
    path = tmp_path / file.name
    whole = path.read_bytes()
    for at in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.write_bytes(changed)
        assert "SHA-256 is " in faults(tmp_path, file)


def test_every_cut_is_found(tmp_path: Path, file: DataFile) -> None:
    path = tmp_path / file.name
    whole = path.read_bytes()
    for end in range(0, len(whole), 13):
        path.write_bytes(whole[:end])
        told = faults(tmp_path, file)
        assert f"size in bytes is {end}, expected {len(whole)}" in told
        assert any(word in told for word in ("number of rows", "in the middle", "trailer"))


def test_a_lost_and_a_doubled_row_are_told(tmp_path: Path, file: DataFile) -> None:
    records = RECORDS[file.format]
    other = [*records[:50], *records[49:], records[0]]
    stored_file(tmp_path / file.name, COLUMNS, other, 30, file.format, file.compression)

    told = faults(tmp_path, file)

    assert "the number of rows is 102, expected 100" in told
    assert f"expected {file.digest.value}" in told


def test_blocks_that_lie_elsewhere_are_told(tmp_path: Path, file: DataFile) -> None:
    first, second, *others = file.blocks
    shifted = [
        Block(offset=first.offset, length=first.length + 1, rows=first.rows),
        Block(offset=second.offset + 1, length=second.length - 1, rows=second.rows),
        *others,
    ]

    told = faults(tmp_path, file.model_copy(update={"blocks": shifted}))

    assert "block 1 does not end where a row ends" in told
    assert "SHA-256" not in told


def test_a_first_block_that_begins_elsewhere_is_told(tmp_path: Path, file: DataFile) -> None:
    first, *others = file.blocks
    shifted = first.model_copy(update={"offset": first.offset + 1, "length": first.length - 1})

    told = faults(tmp_path, file.model_copy(update={"blocks": [shifted, *others]}))

    assert "block 1 begins at byte" in told or "the header does not end where a row ends" in told
    assert "SHA-256" not in told


def test_blocks_with_other_rows_than_they_say_are_told(tmp_path: Path, file: DataFile) -> None:
    first, second, *others = file.blocks
    shifted = [
        first.model_copy(update={"rows": first.rows + 1}),
        second.model_copy(update={"rows": second.rows - 1}),
        *others,
    ]

    told = faults(tmp_path, file.model_copy(update={"blocks": shifted}))

    assert "30 rows end with block 1, expected 31" in told


@pytest.mark.parametrize("kept", [slice(0), slice(3), slice(1, None)], ids=["none", "3", "last 3"])
def test_blocks_that_leave_out_a_part_are_told(tmp_path: Path, file: DataFile, kept: slice) -> None:
    told = faults(tmp_path, file.model_copy(update={"blocks": file.blocks[kept]}))

    assert "block" in told or "header" in told
    assert "SHA-256" not in told


def test_a_file_of_another_form_is_told(tmp_path: Path) -> None:
    binary = make(tmp_path, "binary", "none")
    (tmp_path / binary.name).write_bytes(b"id,text\n" + b"".join(RECORDS["csv"]))

    assert "it does not begin as a binary COPY does" in faults(tmp_path, binary)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_block_that_can_not_be_unpacked_is_an_error(
    tmp_path: Path, compression: Compression
) -> None:
    file = make(tmp_path, "csv", compression)
    block = file.blocks[1]
    cut = block.model_copy(update={"length": block.length - 3})

    with pytest.raises(IntegrityError, match=r"t_20250102_030405.x can't be read: .*the middle"):
        list(read_block(LocalDirectory(tmp_path), file, cut))
    data = bytearray((tmp_path / file.name).read_bytes())
    data[block.offset + 2] ^= 0xFF
    (tmp_path / file.name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"can't be read: its compressed data is damaged"):
        list(read_block(LocalDirectory(tmp_path), file, block))
