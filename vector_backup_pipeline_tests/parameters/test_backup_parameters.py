"""What a caller may ask for, and what is refused before anything is touched."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name
from vector_backup_pipeline.parameters.types import MOST_WORKERS, check_task_id, is_task_id

GOOD: dict[str, Any] = {
    "tables": ("docs", "app.docs"),
    "truncate_tables": ("app.docs",),
}
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def request(**changes: Any) -> BackupRequest:
    return BackupRequest(**{**GOOD, **changes})


@pytest.mark.parametrize("task_id", ["a", "0", "_", "task_1", "A" * 200, None])
def test_letters_digits_and_underscores_are_a_task_id(task_id: str | None) -> None:
    check_task_id(task_id)
    assert request(task_id=task_id).task_id == task_id


def test_an_empty_task_is_none() -> None:
    assert request(task_id="").task_id is None


@pytest.mark.parametrize(
    "task_id",
    [
        "a" * 201,
        "../x",
        "a b",
        "task\n",
        "a/b",
        "a\\b",
        ".",
        "..",
        "a-b",
        "ä",
        "١",
        "a\0",
        "%2e%2e",
        "~",
    ],
)
def test_anything_else_is_refused_and_shown_readably(task_id: str) -> None:
    with pytest.raises(InvalidParams) as refusal:
        request(task_id=task_id)

    assert repr(task_id[:40])[:-1] in refusal.value.message
    with pytest.raises(InvalidParams, match=r"^task_id is"):
        check_task_id(task_id)


@given(st.text())
def test_a_task_id_never_leaves_its_directory(text: str) -> None:
    allowed = set(string.ascii_letters + string.digits + "_")

    assert is_task_id(text) == (0 < len(text) <= 200 and set(text) <= allowed)


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("docs", None, "docs"),
        ("Docs", None, "Docs"),
        ("my docs", None, "my docs"),
        ("app.docs", "app", "docs"),
        ("a.b.c", "a", "b.c"),
        ('"a.b"', None, "a.b"),
        ('"a.b".c', "a.b", "c"),
        ('a."b.c"', "a", "b.c"),
        ('"a.b"."c.d"', "a.b", "c.d"),
        ('"a""b"', None, 'a"b'),
        ('a"b', None, 'a"b'),
        ('a.b"c', "a", 'b"c'),
        (" docs ", None, " docs "),
        ("größe.表", "größe", "表"),
    ],
)
def test_the_first_dot_splits_and_quotes_protect_dots(
    text: str, schema: str | None, name: str
) -> None:
    assert parse_table_name(text) == TableName(schema, name)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", '"', '""', '"a', '"a"b', '"a".', '"a"."b"c', 'a."', 'a.""', "a\0b"],
)
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidParams, match="malformed"):
        parse_table_name(text)


@given(NAMES, NAMES)
def test_any_name_can_be_written_in_quotes(schema: str, name: str) -> None:
    def quoted(part: str) -> str:
        return '"' + part.replace('"', '""') + '"'

    assert parse_table_name(quoted(name)) == TableName(None, name)
    assert parse_table_name(f"{quoted(schema)}.{quoted(name)}") == TableName(schema, name)


@pytest.mark.parametrize(
    "tables", [(), ("docs", "docs"), ("docs", '"docs"'), ("a.b", '"a"."b"'), ("docs", "")]
)
def test_no_table_and_a_table_named_twice_are_refused(tables: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParams):
        request(tables=tables)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("export_method", "COPY"),
        ("export_method", ""),
        ("format", "parquet"),
        ("compression", "gz"),
        ("compression_level", 3),
        ("batch_size", 0),
        ("batch_size", 10**300),
        ("progress_every", 10**18),
        ("progress_every", -1),
        ("workers", 0),
        ("workers", MOST_WORKERS + 1),
    ],
)
def test_a_bad_value_is_refused_by_its_keys_name(key: str, value: object) -> None:
    with pytest.raises(InvalidParams, match=f"^{key} is"):
        request(**{key: value})


@pytest.mark.parametrize(
    ("compression", "good", "bad"), [("gzip", (1, 9), (0, 10)), ("zstd", (1, 22), (0, 23, -1))]
)
def test_each_compression_has_levels_of_its_own(
    compression: str, good: tuple[int, ...], bad: tuple[int, ...]
) -> None:
    for level in good:
        assert request(compression=compression, compression_level=level).compression_level == level
    for level in bad:
        with pytest.raises(InvalidParams, match=f"^compression_level is {level}; .*must be from 1"):
            request(compression=compression, compression_level=level)


def test_a_cursor_gives_no_binary_rows() -> None:
    with pytest.raises(InvalidParams, match="format 'binary' is COPY's own"):
        request(export_method="cursor", format="binary")


def test_only_tables_of_the_same_run_are_truncated() -> None:
    with pytest.raises(InvalidParams, match="not among the tables"):
        request(truncate_vector_tables=True, tables=("docs",), truncate_tables=("other",))


def test_truncating_without_a_table_to_truncate_is_refused() -> None:
    with pytest.raises(InvalidParams, match="no table is set"):
        request(truncate_vector_tables=True, truncate_tables=())


def test_truncate_tables_count_only_when_truncating_was_asked_for() -> None:
    assert request(truncate_tables=("other",)).tables_to_truncate == ()


def test_a_table_to_truncate_may_be_spelled_in_another_way() -> None:
    asked = request(truncate_vector_tables=True, truncate_tables=('"app"."docs"',))

    assert asked.tables_to_truncate == ("app.docs",)


@pytest.mark.parametrize(
    ("backup", "truncate", "nothing"),
    [(True, False, False), (False, False, True), (False, True, False), (True, True, False)],
)
def test_truncating_switches_the_backup_on(backup: bool, truncate: bool, nothing: bool) -> None:
    asked = request(backup_vector_tables=backup, truncate_vector_tables=truncate)

    assert asked.does_nothing is nothing
