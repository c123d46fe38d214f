"""Texts for callers, without paths of the server."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

# Before a slash that begins a path there is none of these: it would be that of a URL, of a relative
# path or of `rows/s`.
_NOT_BEFORE = r"(?<![\w.%/~\]\\-])"
_WITHIN = r"[^\s/'\"`,;:()<>|]"
_PATH = re.compile(
    # Between quotes it may hold anything else, blanks among it.
    r"(?<!\w')(?<=')/[^'\n]+(?=')|(?<!\w\")(?<=\")/[^\"\n]+(?=\")|"
    rf"{_NOT_BEFORE}(?:file://)?(?:/(?!/)|(?<!:)//+){_WITHIN}+(?:/{_WITHIN}*)*"
)
# The one place where a result has a path, so that who runs both may find the files.
_KEPT = "backup_directory"


def without_paths(told: Any, root: str | None = None) -> Any:
    """`told`, a text or what JSON may hold, with each path under `root` relative to the root's
    parent, as the list has them, and of any other path its last part alone."""
    if isinstance(told, str):
        return _in_text(told, root)
    if isinstance(told, dict):
        return {
            key: value if key == _KEPT else without_paths(value, root)
            for key, value in told.items()
        }
    if isinstance(told, list):
        return [without_paths(each, root) for each in told]
    return told


def _in_text(text: str, root: str | None) -> str:
    if root is not None and root.startswith("/") and root != "/":
        whole = rf"{_NOT_BEFORE}{re.escape(root)}(?![^\s/'\"`,;:().<>|])"
        name = PurePosixPath(root).name
        text = re.sub(whole, lambda _: name, text)
    return _PATH.sub(lambda path: f"…/{PurePosixPath(path.group()).name}", text)
