"""What a renamed table takes along gets a free name, of a length that the server does not cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.postgres.recreation.naming import free_name

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("docs_pkey", set(), "docs_pkey"),
        ("docs_pkey", {"docs_pkey"}, "copy_pkey"),
        ("docs_pkey", {"docs_pkey", "copy_pkey"}, "copy_pkey_1"),
        ("by_body", {"by_body"}, "by_body_1"),
        ("by_body", {"by_body", "by_body_1"}, "by_body_2"),
        ("docs_of_docs", {"docs_of_docs"}, "copy_of_docs"),
    ],
)
def test_a_name_is_changed_as_little_as_it_takes(name: str, taken: set[str], expected: str) -> None:
    assert free_name(name, "docs", "copy", taken.__contains__) == expected


def test_a_long_name_is_cut_between_characters() -> None:
    name = "é" * 31 + "x"
    assert free_name(name, "-", "-", {name}.__contains__) == "é" * 30 + "_1"


def test_a_new_name_may_be_longer_than_the_old() -> None:
    new = "a_very_long_name_" * 3
    assert free_name("docs_body_key", "docs", new, {"docs_body_key"}.__contains__) == (
        new + "_body_key"
    )
    new += "_even_longer"
    assert free_name("docs_body_key", "docs", new, {"docs_body_key"}.__contains__) == new


@given(NAMES, NAMES, NAMES, st.sets(NAMES))
def test_the_name_is_free_and_no_longer_than_63_bytes(
    name: str, old: str, new: str, others: set[str]
) -> None:
    found = free_name(name, old, new, {name, *others}.__contains__)
    assert found not in {name, *others}
    assert 0 < len(found.encode()) <= 63
