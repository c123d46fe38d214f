"""The tables of parameters in the documentation.

    python -m vector_backup_pipeline.parameters.tables README.md docs/retention.md

writes them anew between `<!-- parameters of backup -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters, shown
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.types import DEFAULT_WORKERS
from vector_backup_pipeline.parameters.verify import VerifyParameters

MODELS: Mapping[str, type[Parameters]] = {
    "backup": BackupParameters,
    "restore": RestoreParameters,
    "verify": VerifyParameters,
    "prune": PruneParameters,
}
_TABLE = re.compile(r"(<!-- parameters of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The document, with each table as its model has it."""
    return _TABLE.sub(lambda found: f"{found[1]}{_table(MODELS[found[2]])}{found[3]}", text)


def _table(model: type[Parameters]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in _rows(model))


def _rows(model: type[Parameters]) -> Iterator[tuple[str, str, str]]:
    yield "key", "default", "meaning"
    yield "---", "---", "---"
    for key, field in model.model_fields.items():
        meaning = (field.description or "").replace("|", r"\|")
        yield f"`{key}`", _default(key, field), meaning


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default()
    if key == "workers" and default == DEFAULT_WORKERS:
        return "4, or the number of cores if less"  # Not those of this machine.
    if default is None or default == {}:
        return shown(field).default or "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        document.write_text(with_tables(document.read_text("utf-8")), "utf-8")
