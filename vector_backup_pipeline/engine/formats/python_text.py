"""JSON documents that were written as Python's `repr`: `{'id': 'x', 'createdat': None}`."""

import ast
import json
import re
from typing import Any, NoReturn

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 40


def json_of(text: str) -> str:
    """The JSON text of the same value: an object or array as Python or JSON writes it, or a bare
    number, `True` or `False`. Text that is JSON already is returned as it is. Raises `ValueError`
    if it is neither, or nested too deeply for Python (about 200 levels)."""
    if _NUMBER.fullmatch(text):
        return text
    if text in ("True", "False"):
        return text.lower()
    if not text.startswith(("{", "[")):
        raise ValueError(f"{_shown(text)} is not an object, array, number, True or False")
    json_text = text if _is_json(text) else _from_python(text)
    # UTF-8 has no lone surrogates, JSON has escapes for them.
    return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", json_text)


def _is_json(text: str) -> bool:
    try:
        # Numbers are not computed, so that none is too large.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _from_python(text: str) -> str:
    try:
        value = ast.literal_eval(text)
        _check_json_types(value)
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except SyntaxError as error:
        raise ValueError(f"{_shown(text)} is neither JSON nor Python: {error.msg}") from error
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is neither JSON nor Python: {error}") from error
    except (MemoryError, RecursionError) as error:
        raise ValueError(f"{_shown(text)} is nested too deeply") from error


def _check_json_types(value: Any) -> None:
    """Python's other literals have no JSON, or `json.dumps` would change them: keys to text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not text")
            _check_json_types(item)
    elif isinstance(value, list):
        for item in value:
            _check_json_types(item)
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"it has a {type(value).__name__}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
