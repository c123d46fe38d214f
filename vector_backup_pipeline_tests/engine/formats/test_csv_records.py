"""Records are split correctly, wherever the stream's chunks are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import RecordSplitter, UnfinishedRecord

VALUES = st.one_of(st.none(), st.text(alphabet=st.sampled_from('a ",\n\r\\.é😀')), st.text())
RECORDS = st.lists(st.lists(VALUES, min_size=1, max_size=3).map(csv_record))


@given(RECORDS, st.lists(st.integers(0, 200), max_size=12))
def test_every_record_is_found_wherever_the_stream_is_cut(
    records: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(records)
    chunks = [data[a:b] for a, b in pairwise([0, *sorted(cuts), len(data) + 200])]

    splitter = RecordSplitter()
    found = [record + b"\n" for chunk in chunks for record in splitter.feed(chunk)]
    splitter.finish()
    assert found == records


@pytest.mark.parametrize(
    "rest", [b"1", b'"', b'"open\n', b'a,"b\nc', b'"a""', b" "], ids=lambda rest: rest.decode()
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_that_ends_in_a_record_is_refused(rest: bytes, size: int) -> None:
    splitter = RecordSplitter()
    data = b"1,2\n3,4\n" + rest

    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    records = [record for chunk in chunks for record in splitter.feed(chunk)]

    assert records == [b"1,2", b"3,4"]
    with pytest.raises(UnfinishedRecord, match="middle of a record"):
        splitter.finish()
