"""Objects of a renamed table get a free name that the server does not truncate."""

from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.postgres.recreation.names import free_name

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)


@given(NAMES, NAMES, NAMES, st.sets(NAMES))
def test_the_name_is_free_and_no_longer_than_63_bytes(
    name: str, old: str, new: str, others: set[str]
) -> None:
    free = free_name(name, old, new, {name, *others})
    assert free not in {name, *others}
    assert 0 < len(free.encode()) <= 63
