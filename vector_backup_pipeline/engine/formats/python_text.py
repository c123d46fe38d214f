"""JSON documents that somebody wrote as Python's `repr`: `{'id': 'x', 'createdat': None}`.

The text is read token by token and every token is rewritten, never evaluated: numbers keep their
digits, objects the order of their keys, and no nesting is too deep for the reader itself.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import NoReturn

# Deeper than `repr` itself can go, and no work for the server, which takes some thousand levels.
DEEPEST = 2000

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_]\w*")
_STRING = re.compile(r"""'([^'\\\r\n]*(?:\\.[^'\\\r\n]*)*)'|"([^"\\\r\n]*(?:\\.[^"\\\r\n]*)*)\"""")
_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(rf"\\(?:x({_HEX}{{2}})|u({_HEX}{{4}})|U({_HEX}{{8}})|(.))")
_SURROGATE = re.compile("[\ud800-\udfff]")

_WORDS = {"True": "true", "False": "false", "None": "null"}
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'} | {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}
_CLOSING = {"{": "}", "[": "]"}


def json_of(text: str) -> str:
    """The JSON text that means the same as `text`: an object or array as Python or as JSON writes
    it, or a bare number, `True` or `False`.

    Text that is JSON already is given back as it is. Lone surrogates become escapes.

    Raises:
        ValueError: it is neither; the message says what was met, and where.
    """
    if not text.lstrip(" \t\r\n").startswith(("{", "[")):
        return _bare_scalar(text)
    return _without_surrogates(text if _is_json(text) else _Rewriter(text).rewrite())


def _bare_scalar(text: str) -> str:
    if _NUMBER.fullmatch(text):
        return _finite(text)
    if text in ("True", "False"):
        return _WORDS[text]
    raise ValueError(
        f"{_shown(text)} is no object, array, number, True or False, so it can't be told what JSON "
        "it was"
    )


def _is_json(text: str) -> bool:
    try:
        # Numbers stay text: nothing is computed, so no number is too large.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Rewriter:
    """Reads Python's text from left to right; `_open` are the brackets that are not closed yet,
    each with the keys that its object has so far."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._written: list[str] = []
        self._open: list[tuple[str, set[str]]] = []

    def rewrite(self) -> str:
        self._value()
        while self._open:
            self._after_value()
        self._skip_space()
        if self._at < len(self._text):
            raise self._unexpected("after the end")
        return "".join(self._written)

    def _value(self) -> None:
        """Read on to the end of the next value that holds no other, or is empty."""
        while self._peek() in _CLOSING:
            bracket = self._take(1)
            if len(self._open) >= DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} levels deep")
            self._open.append((bracket, set()))
            self._written.append(bracket)
            if self._peek() == _CLOSING[bracket]:
                self._close()
                return
            if bracket == "{":
                self._key()
        self._scalar()

    def _after_value(self) -> None:
        bracket, _ = self._open[-1]
        if self._peek() == _CLOSING[bracket]:
            self._close()
            return
        self._expect(",")
        self._written.append(", ")
        if bracket == "{":
            self._key()
        self._value()

    def _close(self) -> None:
        self._written.append(self._take(1))
        self._open.pop()

    def _key(self) -> None:
        if self._peek() not in ("'", '"'):
            raise self._unexpected("where a key in quotes should be")
        key = self._string()
        keys = self._open[-1][1]
        if key in keys:
            raise ValueError(f"the key {_shown(key)} is there twice in one object")
        keys.add(key)
        self._written.append(json.dumps(key, ensure_ascii=False))
        self._expect(":")
        self._written.append(": ")

    def _scalar(self) -> None:
        if self._peek() in ("'", '"'):
            self._written.append(json.dumps(self._string(), ensure_ascii=False))
        elif match := _NUMBER.match(self._text, self._at):
            self._written.append(_finite(self._take(len(match.group()))))
        elif (match := _WORD.match(self._text, self._at)) and match.group() in _WORDS:
            self._written.append(_WORDS[self._take(len(match.group()))])
        else:
            raise self._unexpected("where a value should be")

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise self._unexpected("as a string that does not end")
        self._at = match.end()
        content = match[1] if match[1] is not None else match[2]
        return _ESCAPE.sub(_unescape, content) if "\\" in content else content

    def _peek(self) -> str:
        self._skip_space()
        return self._text[self._at : self._at + 1]

    def _skip_space(self) -> None:
        if match := _SPACE.match(self._text, self._at):
            self._at = match.end()

    def _take(self, length: int) -> str:
        taken = self._text[self._at : self._at + length]
        self._at += length
        return taken

    def _expect(self, token: str) -> None:
        if self._peek() != token:
            raise self._unexpected(f"where {token!r} should be")
        self._at += 1

    def _unexpected(self, where: str) -> ValueError:
        rest = self._text[self._at :]
        found = _shown(rest) if rest else "its end"
        return ValueError(f"{found} stands at character {self._at + 1}, {where}")


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits and int(digits, 16) <= sys.maxunicode:
        return chr(int(digits, 16))
    if match[4] not in _ESCAPED:
        raise ValueError(f"{match[0]} is an escape that Python does not write")
    return _ESCAPED[match[4]]


def _finite(number: str) -> str:
    # A whole number has no limit; with a point or an exponent it was a float.
    if not number.lstrip("-").isdigit() and math.isinf(float(number)):
        raise ValueError(f"{_shown(number)} is larger than any number of Python's")
    return number


def _without_surrogates(text: str) -> str:
    """Lone surrogates, which UTF-8 can't hold, as the escapes that JSON has for them."""
    return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
