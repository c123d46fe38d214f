"""What a request's headers say of the bytes that are wanted: RFC 9110."""

import pytest

from vector_backup_pipeline.api.byte_ranges import ByteRange, is_known, requested_range
from vector_backup_pipeline.api.errors import RangeNotSatisfiable

TAG = '"abc-1"'


def _range(text: str, size: int = 100) -> ByteRange | None:
    return requested_range({"range": text}, size, TAG)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=5-", 5, 99),
        ("bytes=5-100", 5, 99),
        ("bytes=99-" + "9" * 5000, 99, 99),
        ("bytes=-1", 99, 99),
        ("bytes=-100", 0, 99),
        ("bytes=-" + "9" * 5000, 0, 99),
        ("bytes=" + "0" * 5000 + "7-8", 7, 8),
        ("BYTES=5-9", 5, 9),
        (" bytes= 5-9\t, ", 5, 9),
    ],
)
def test_one_range_is_a_part(text: str, first: int, last: int) -> None:
    found = _range(text)
    assert found == ByteRange(first, last)
    assert found.length == last - first + 1
    assert found.content_range(100) == f"bytes {first}-{last}/100"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=9-5",
        "bytes=1-2,4-5",
        "bytes=1-2, -5",
        "bytes=-1-2",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes =1-2",
        "bytes=1-2;",
        "bytes=1.0-2",
        "bytes=１-２",
        "rows=1-2",
        "1-2",
    ],
)
def test_what_is_no_single_range_asks_for_the_whole_file(text: str) -> None:
    assert _range(text) is None


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=" + "9" * 5000 + "-"])
def test_a_range_outside_of_the_file_can_not_be_satisfied(text: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as raised:
        _range(text)
    assert raised.value.size == 100
    assert "100 bytes" in raised.value.message


def test_of_an_empty_file_no_byte_can_be_had_but_its_end() -> None:
    assert _range("bytes=-5", 0) is None
    for text in ("bytes=0-", "bytes=0-0", "bytes=-0"):
        with pytest.raises(RangeNotSatisfiable):
            _range(text, 0)


def test_no_bytes_from_the_end_are_no_range_that_can_be_satisfied() -> None:
    with pytest.raises(RangeNotSatisfiable):
        _range("bytes=-0")


@pytest.mark.parametrize("if_range", [TAG, f" {TAG} "])
def test_a_range_of_the_version_at_hand_is_a_part(if_range: str) -> None:
    assert requested_range({"range": "bytes=0-1", "if-range": if_range}, 9, TAG) == ByteRange(0, 1)


@pytest.mark.parametrize(
    "if_range", ['"other"', f"W/{TAG}", "abc-1", "*", "", "Wed, 21 Oct 2015 07:28:00 GMT"]
)
@pytest.mark.parametrize("text", ["bytes=0-1", "bytes=100-"])
def test_a_range_of_another_version_asks_for_the_whole_file(text: str, if_range: str) -> None:
    assert requested_range({"range": text, "if-range": if_range}, 9, TAG) is None


@pytest.mark.parametrize("text", [TAG, f"W/{TAG}", "*", f'"x", W/"a,b",{TAG}', f'"", , {TAG} '])
def test_a_version_in_the_list_is_known(text: str) -> None:
    assert is_known({"if-none-match": text}, TAG)


@pytest.mark.parametrize("text", ["", "abc-1", '"abc"', '"x, *"', '"abc-1', "W/abc-1", '"ABC-1"'])
def test_a_version_that_is_not_in_the_list_is_not_known(text: str) -> None:
    assert not is_known({"if-none-match": text}, TAG)
    assert not is_known({}, TAG)
