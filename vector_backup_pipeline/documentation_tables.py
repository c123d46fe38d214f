"""The tables of parameters and settings in the documentation.

    python -m vector_backup_pipeline.documentation_tables docs/{parameters,retention,settings}.md

rewrites them between `<!-- parameters of backup -->` or `<!-- settings -->` and `<!-- end -->`.
"""

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
        lines = [f"| {'key' if table[2] else 'variable'} | default | meaning |"]
        lines.append("| --- | --- | --- |")
        for name, default, field in _parameters(table[2]) if table[2] else _settings():
            meaning = (field.description or "").replace("|", r"\|")
            lines.append(f"| `{name}` | {default} | {meaning} |")
        return table[1] + "".join(f"{line}\n" for line in lines) + table[3]

    return _TABLE.sub(generate, text)


def _parameters(operation: str) -> Iterator[tuple[str, str, FieldInfo]]:
    model = next(o.parameters for o in OPERATIONS if o.name == operation)
    for key, field in model.model_fields.items():
        yield key, _parameter_default(key, field), field


def _settings() -> Iterator[tuple[str, str, FieldInfo]]:
    for name, field in Settings.model_fields.items():
        text = setting_text(field.default)
        yield variable_of(name), f"`{text}`" if text else "", field


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
