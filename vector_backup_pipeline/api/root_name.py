"""The backup root in texts for callers."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

# The characters that may precede a path in a message.
_BEFORE_PATH = (" ", "\n", "'", '"', "(")


def with_root_name(value: Any, root: str) -> Any:
    """`value`, a text or JSON, with the local directory `root` replaced by its name, as in the
    list of backups. `backup_directory` keeps its full path."""
    if isinstance(value, str):
        return _in_text(value, root)
    if isinstance(value, dict):
        return {
            key: each if key == "backup_directory" else with_root_name(each, root)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [with_root_name(each, root) for each in value]
    return value


def _in_text(text: str, root: str) -> str:
    name = PurePosixPath(root).name
    if not root.startswith("/") or not name:
        return text
    text = f" {text}"
    for before in _BEFORE_PATH:
        text = text.replace(before + root, before + name)
    return text[1:]
