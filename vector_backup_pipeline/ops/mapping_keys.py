"""How the steps that are fanned out by table are called."""

import re

_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_]")


def mapping_keys(tables: list[str]) -> list[str]:
    """A step key for each table: its name as far as Dagster allows, numbered where two agree."""
    keys: list[str] = []
    for table in tables:
        key = base = _NOT_IN_A_KEY.sub("_", table)
        number = 2
        while key in keys:
            key, number = f"{base}_{number}", number + 1
        keys.append(key)
    return keys
