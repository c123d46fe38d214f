"""Objects of a renamed table get a free name that the server does not truncate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.postgres.recreation.names import free_name

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("docs_pkey", set(), "docs_pkey"),
        ("docs_pkey", {"docs_pkey"}, "copy_pkey"),
        ("docs_pkey", {"docs_pkey", "copy_pkey"}, "copy_pkey_1"),
        ("by_body", {"by_body", "by_body_1"}, "by_body_2"),
        ("docs_of_docs", {"docs_of_docs"}, "copy_of_docs"),
        ("é" * 31 + "x", {"é" * 31 + "x"}, "é" * 30 + "_1"),
    ],
)
def test_a_name_is_changed_as_little_as_possible(name: str, taken: set[str], expected: str) -> None:
    assert free_name(name, "docs", "copy", taken) == expected


@given(NAMES, NAMES, NAMES, st.sets(NAMES))
def test_the_name_is_free_and_no_longer_than_63_bytes(
    name: str, old: str, new: str, others: set[str]
) -> None:
    free = free_name(name, old, new, {name, *others})
    assert free not in {name, *others}
    assert 0 < len(free.encode()) <= 63
