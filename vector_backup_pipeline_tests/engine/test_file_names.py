"""Names of files: made from a table's name, and known again."""

from __future__ import annotations

from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.file_names import (
    data_extension,
    data_file_name,
    manifest_name,
    marker_name,
    stamp_of_data_file,
    stamp_of_manifest,
    stamp_of_marker,
    stamp_of_pending,
    stamp_of_verdict,
    table_of_data_file,
    verdict_name,
)
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS, Compression, Format

TIMESTAMPS = TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, timezone.utc)
STAMP = "20250721_234914"
# What PostgreSQL takes as a name.
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


@given(NAMES, NAMES)
def test_a_data_file_stays_in_its_directory_and_in_sight(schema: str, table: str) -> None:
    name = data_file_name(schema, table, STAMP, "csv")

    assert not set(name) & set("/\\\0\n\r\t\x1b\x7f")
    assert not name.startswith(".")


@given(NAMES, NAMES)
def test_tables_of_one_schema_never_share_a_file(one: str, other: str) -> None:
    names = {data_file_name("public", table, STAMP, "csv") for table in (one, other)}

    assert len(names) == len({one, other})


def test_long_names_fit_into_a_file_name_and_stay_apart() -> None:
    names = {data_file_name("/" * 63, "/" * 62 + end, STAMP, "csv.zst") for end in "ab"}

    assert len(names) == 2
    assert all(len(f"{name}.tmp".encode()) <= 255 for name in names)


@given(NAMES, NAMES, st.sampled_from(FORMATS), st.sampled_from(COMPRESSIONS))
def test_a_data_file_is_known_again_by_its_stamp(
    schema: str, table: str, form: Format, compression: Compression
) -> None:
    name = data_file_name(schema, table, STAMP, data_extension(form, compression))

    assert stamp_of_data_file(name, TIMESTAMPS) == STAMP
    assert stamp_of_pending(name + ".tmp", TIMESTAMPS) == STAMP
    assert stamp_of_pending(name, TIMESTAMPS) is None
    assert stamp_of_data_file(name + ".tmp", TIMESTAMPS) is None
    assert stamp_of_manifest(name, TIMESTAMPS) is None
    assert stamp_of_marker(name, TIMESTAMPS) is None


def test_a_verdict_is_known_again_and_not_taken_for_a_manifest() -> None:
    name = verdict_name(STAMP)

    assert name == "vector_backup_20250721_234914.verified.json"
    assert stamp_of_verdict(name, TIMESTAMPS) == STAMP
    assert stamp_of_pending(name + ".tmp", TIMESTAMPS) == STAMP
    assert stamp_of_verdict(manifest_name(STAMP), TIMESTAMPS) is None
    for stamp_of in (stamp_of_data_file, stamp_of_manifest, stamp_of_marker, stamp_of_pending):
        assert stamp_of(name, TIMESTAMPS) is None


@pytest.mark.parametrize("table", ["docs", "app.docs", "a_20250721_234914.b", "_"])
def test_a_data_files_name_begins_with_its_tables(table: str) -> None:
    assert table_of_data_file(f"{table}_{STAMP}.csv", STAMP) == table


def test_manifest_and_marker_are_known_again() -> None:
    assert manifest_name(STAMP) == "vector_backup_20250721_234914.json"
    assert marker_name(STAMP) == ".vector_backup_20250721_234914.run"
    assert stamp_of_manifest(manifest_name(STAMP), TIMESTAMPS) == STAMP
    assert stamp_of_pending(manifest_name(STAMP) + ".tmp", TIMESTAMPS) == STAMP
    assert stamp_of_marker(marker_name(STAMP), TIMESTAMPS) == STAMP


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
    assert stamp_of_data_file(name, TIMESTAMPS) is None
    assert stamp_of_manifest(name, TIMESTAMPS) is None
    assert stamp_of_marker(name, TIMESTAMPS) is None
    assert stamp_of_pending(name + ".tmp", TIMESTAMPS) is None
