"""The tables of parameters and settings in the documentation.

    python -m vector_backup_pipeline.documentation_tables docs/{parameters,retention,settings}.md

rewrites them between `<!-- parameters of backup -->` or `<!-- settings -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from vector_backup_pipeline.instance_files import setting_text
from vector_backup_pipeline.operations import OPERATIONS
from vector_backup_pipeline.parameters.model import shown
from vector_backup_pipeline.parameters.types import DEFAULT_WORKERS
from vector_backup_pipeline.settings import Settings, variable_of

_TABLE = re.compile(r"(<!-- (?:parameters of (\w+)|settings) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The document with its tables generated."""

    def generate(table: re.Match[str]) -> str:
        rows = _parameter_rows(table[2]) if table[2] else _setting_rows()
        return table[1] + "".join(f"| {' | '.join(row)} |\n" for row in rows) + table[3]

    return _TABLE.sub(generate, text)


def _parameter_rows(operation: str) -> Iterator[tuple[str, str, str]]:
    yield "key", "default", "meaning"
    yield "---", "---", "---"
    model = next(o.parameters for o in OPERATIONS if o.name == operation)
    for key, field in model.model_fields.items():
        yield f"`{key}`", _parameter_default(key, field), _meaning(field)


def _setting_rows() -> Iterator[tuple[str, str, str]]:
    yield "variable", "default", "meaning"
    yield "---", "---", "---"
    for name, field in Settings.model_fields.items():
        text = setting_text(field.default)
        yield f"`{variable_of(name)}`", f"`{text}`" if text else "", _meaning(field)


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", r"\|")


def _parameter_default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if key == "workers" and field.default == DEFAULT_WORKERS:
        return "4, or the number of cores if less"  # Not those of this machine.
    if field.default is None or field.default == {}:
        return shown(field).default or "none"
    return f"`{setting_text(field.default)}`"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        document.write_text(with_tables(document.read_text("utf-8")), "utf-8")
