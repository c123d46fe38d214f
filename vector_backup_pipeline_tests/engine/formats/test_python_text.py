"""Python's text of a JSON value becomes JSON of the same value, or is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.formats.python_text import json_of

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**60), 10**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    # With lone surrogates, and more quotes and escapes than by chance.
    st.text(st.characters(), max_size=9),
    st.text(st.sampled_from("'\"\\nux{}[],: \n\t\x00\x7f\xad\u2028😀\ud800\udc00")),
)
KEYS = st.text(st.characters(), max_size=9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(KEYS, inner)), max_leaves=8
)
DOCUMENTS = st.one_of(st.lists(VALUES), st.dictionaries(KEYS, VALUES))


def same(left: Any, right: Any) -> bool:
    """Equal and of equal types: `True` is not 1, and -0.0 not 0.0."""
    return repr(left) == repr(right)


def as_json_sees_it(value: Any) -> Any:
    """A pair of surrogates is one character in JSON."""
    return json.loads(json.dumps(value))


@given(DOCUMENTS)
def test_the_text_is_json_of_the_same_value(value: Any) -> None:
    text = json_of(repr(value))

    assert same(json.loads(text), as_json_sees_it(value))
    text.encode()  # Can be encoded in UTF-8, with any surrogates.
    is_json_already = json.dumps(value)
    assert json_of(is_json_already) == is_json_already


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_bare_number_or_bool_is_json(value: Any) -> None:
    assert same(json.loads(json_of(repr(value))), value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'id': 'x', 'createdat': None}", '{"id": "x", "createdat": null}'),
        (r"{'a': '\\n\n\t\x00\x7f\xad'}", '{"a": "\\\\n\\n\\t\\u0000\x7f\xad"}'),
        (r"{'a': '\u2028\U0001f600é'}", '{"a": "\u2028😀é"}'),
        (r"['\ud800', 'x\udc00']", r'["\ud800", "x\udc00"]'),
        ("[1e+16, 1e-07, 1.5e+300, -0.0]", "[1e+16, 1e-07, 1.5e+300, -0.0]"),
        ('{"a":  12345678901234567890.10}', '{"a":  12345678901234567890.10}'),
        ("[1e400]", "[1e400]"),
        (r'["\/"]', r'["\/"]'),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert json_of(text) == expected


def test_a_number_of_any_length_keeps_its_digits() -> None:
    digits = "7" * 20_000

    assert json_of(digits) == digits
    assert json_of(f'["x", {digits}]') == f'["x", {digits}]'


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "None", "null", "true", "nan", "inf", "-inf", "text", "'text'", '"text"'),
        *(" 1", "01", "1.", ".5", "+1", "1_000", "0x10", "1j", "(1, 2)", "b'x'"),
        *("['x', (1, 2)]", "{'x', 'y'}", "{'x': {1}}", "{1: 'x'}", "{None: 'x'}"),
        *("['x', b'y']", "['x', f'y']", "['x', 1j]", "['x', 1+2j]", "['x', nan]"),
        *("['x', inf]", "['x', -inf]", "['x', 1e400]", f"['x', {'9' * 400}.0]", "['x', NaN]"),
        *("[NaN]", "[Infinity]", "['x', Decimal('1')]", "['x', __import__('os')]"),
        *("['x', null]", "['x', 1 2]", "['x',, 'y']", "['x'", "['x']]", "{'x'}", "{'x': }"),
        *("{'x': 1, 'y'}", "['x}", "['x\\']", "['line\nfeed', None]", r"['\x4']"),
        *(r"['\u12']", r"['\U00110000']", "...", "{...: 1}", "[...]"),
    ],
)
def test_what_is_neither_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        json_of(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 1_000_000 + "None" + "]" * 1_000_000, "['x', " + "-" * 1_000_000 + "1]"],
    ids=["brackets", "signs"],
)
def test_what_is_nested_too_deeply_is_refused_without_a_crash(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither JSON nor Python|deeply"):
        json_of(text)


def test_nesting_of_a_hundred_levels_is_read() -> None:
    assert json_of("[" * 100 + "'x'" + "]" * 100) == "[" * 100 + '"x"' + "]" * 100
