"""File names are made from a table's name, and recognized."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.file_names import (
    data_extension,
    data_file_name,
    manifest_name,
    marker_name,
    reading_name,
    stamp_of_data_file,
    stamp_of_manifest,
    stamp_of_marker,
    stamp_of_pending,
    stamp_of_reading,
    stamp_of_tombstone,
    stamp_of_verdict,
    table_of_data_file,
    tombstone_name,
    verdict_name,
)
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS, TimestampFormat
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS, Compression, Format

STAMP = "20250721_234914"
StampOf: TypeAlias = Callable[[str, TimestampFormat], str | None]
STAMPS_OF: list[StampOf] = [
    stamp_of_data_file,
    stamp_of_manifest,
    stamp_of_marker,
    stamp_of_pending,
    stamp_of_reading,
    stamp_of_tombstone,
    stamp_of_verdict,
]
# Valid names in PostgreSQL.
NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@pytest.mark.parametrize(
    ("schema", "table", "name"),
    [
        ("public", "docs", "docs_20250721_234914.csv"),
        ("app", "docs", "app.docs_20250721_234914.csv"),
        ("Public", "Docs", "Public.Docs_20250721_234914.csv"),
        ("public", "a/b\\c%d", "a%2Fb%5Cc%25d_20250721_234914.csv"),
        ("public", "a\n\x7f\x85", "a%0A%7F%C2%85_20250721_234914.csv"),
        ("public", "...a.b", "%2E%2E%2Ea.b_20250721_234914.csv"),
        (".app", ".docs", "%2Eapp..docs_20250721_234914.csv"),
        ("public", "größe 表 😀", "größe 表 😀_20250721_234914.csv"),
    ],
)
def test_a_data_file_is_named_after_its_table(schema: str, table: str, name: str) -> None:
    assert data_file_name(schema, table, STAMP, "csv") == name


@given(
    *(NAMES, NAMES, NAMES),
    st.sampled_from(FORMATS),
    st.sampled_from(COMPRESSIONS),
    st.sampled_from(["", ".age"]),
)
def test_a_data_file_is_visible_unique_and_recognized(
    schema: str, table: str, other: str, form: Format, compression: Compression, suffix: str
) -> None:
    extension = data_extension(form, compression) + suffix
    name = data_file_name(schema, table, STAMP, extension)

    assert not set(name) & set("/\\\0\n\r\t\x1b\x7f")
    assert not name.startswith(".")
    assert (name == data_file_name(schema, other, STAMP, extension)) == (table == other)
    assert table_of_data_file(name, STAMP) == name.removesuffix(f"_{STAMP}.{extension}")
    assert _recognized(name) == [stamp_of_data_file]
    assert _recognized(name + ".tmp") == [stamp_of_pending]


@pytest.mark.parametrize(
    ("name", "expected", "stamp_of"),
    [
        (manifest_name(STAMP), "vector_backup_20250721_234914.json", stamp_of_manifest),
        (verdict_name(STAMP), "vector_backup_20250721_234914.verified.json", stamp_of_verdict),
        (
            tombstone_name(STAMP),
            "vector_backup_20250721_234914.tombstone.json",
            stamp_of_tombstone,
        ),
        (marker_name(STAMP), ".vector_backup_20250721_234914.run", stamp_of_marker),
        (
            reading_name(STAMP, "run"),
            ".vector_backup_20250721_234914_acba2551.reading",
            stamp_of_reading,
        ),
    ],
)
def test_each_file_of_a_set_has_its_name_and_is_recognized_by_it(
    name: str, expected: str, stamp_of: StampOf
) -> None:
    assert name == expected
    assert _recognized(name) == [stamp_of]


def test_long_names_fit_into_a_file_name_and_stay_apart() -> None:
    names = {data_file_name("/" * 63, "/" * 62 + end, STAMP, "csv.zst") for end in "ab"}

    assert len(names) == 2
    assert all(len(f"{name}.tmp".encode()) <= 255 for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "notes.csv",
        "docs_20250721_234914.txt",
        "docs_20250721_234914.csv.bak",
        "docs20250721_234914.csv",
        "docs_20251321_234914.csv",
        "docs_20250721_234960.csv",
        "docs_2025-07-21.csv",
        "20250721_234914.csv",
        "docs_٢0250721_234914.csv",
        "vector_backup_log.txt",
        "vector_backup_latest.json",
        "",
    ],
)
def test_other_peoples_files_are_not_taken_for_ours(name: str) -> None:
    assert _recognized(name) == _recognized(name + ".tmp") == []


def _recognized(name: str) -> list[StampOf]:
    return [stamp_of for stamp_of in STAMPS_OF if stamp_of(name, DEFAULT_TIMESTAMPS) == STAMP]
