"""A free name for what a renamed table takes along, where its own is taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable

# NAMEDATALEN - 1: the server cuts what is longer, and two names may become one.
_LONGEST_BYTES = 63


def free_name(name: str, old: str, new: str, is_taken: Callable[[str], bool]) -> str:
    """`name` if it is free; else with the table's `old` name in it replaced by the `new` one, and
    with `_1`, `_2`, … if that doesn't help. 63 bytes at most.
    """
    if not is_taken(name):
        return name
    base = _cut(name.replace(old, new, 1), _LONGEST_BYTES)
    candidates = itertools.chain([base], (_numbered(base, n) for n in itertools.count(1)))
    return next(each for each in candidates if not is_taken(each))


def _numbered(base: str, number: int) -> str:
    suffix = f"_{number}"
    return _cut(base, _LONGEST_BYTES - len(suffix)) + suffix


def _cut(name: str, length: int) -> str:
    """At most `length` bytes, and no half character."""
    return name.encode()[:length].decode(errors="ignore")
