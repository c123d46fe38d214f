"""What the jobs share: the keys of their steps."""

import re

from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.jobs.frame import mapping_keys


def test_a_step_is_named_after_its_table() -> None:
    assert mapping_keys(["docs", "a.b", "a_b", "a-b", "a_b_2"]) == [
        "docs",
        "a_b",
        "a_b_2",
        "a_b_3",
        "a_b_2_2",
    ]


@given(st.lists(st.text(min_size=1, max_size=8), max_size=8, unique=True))
def test_every_step_has_a_name_of_its_own_that_dagster_accepts(tables: list[str]) -> None:
    keys = mapping_keys(tables)

    assert len(set(keys)) == len(tables)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", key) for key in keys)
