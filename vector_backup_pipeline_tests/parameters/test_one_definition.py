"""A field of a parameter model appears in everything that is generated from the model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vector_backup_pipeline
from vector_backup_pipeline.documentation_tables import with_tables
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT

_NEW_FIELD = """
    sparkle: int = Field(default=3, ge=1, le=9, description="How much it sparkles.", examples=[7])
"""
_GENERATE = """
import json
from click.testing import CliRunner
from vector_backup_pipeline.api.app import create_app
from vector_backup_pipeline.cli import commands
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.documentation_tables import with_tables
from vector_backup_pipeline.settings import load_settings

post = create_app(load_settings()).openapi()["paths"]["/api/v0/data_pipeline/vector/backup"]["post"]
body = post["requestBody"]["content"]["application/json"]["schema"]
field = vector_backup_job.config_mapping.config_schema.config_type.fields["sparkle"]
print(json.dumps({
    "help": CliRunner().invoke(commands, ["backup", "--help"]).output,
    "openapi": body["properties"]["sparkle"],
    "config": [field.description, field.default_value],
    "table": with_tables("<!-- parameters of backup -->\\n<!-- end -->"),
}))
"""


def test_a_new_field_of_a_copy_of_the_package_is_everywhere(tmp_path: Path) -> None:
    package = Path(vector_backup_pipeline.__file__).parent
    copy = shutil.copytree(package, tmp_path / package.name)
    model = copy / "parameters" / "backup.py"
    last_field = "    progress_every: types.ProgressEvery = types.DEFAULT_PROGRESS_EVERY\n"
    source = model.read_text()
    assert last_field in source
    model.write_text(source.replace(last_field, last_field + _NEW_FIELD))
    done = subprocess.run(
        [sys.executable, "-c", _GENERATE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "VECTOR_BACKUP_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    generated: dict[str, Any] = json.loads(done.stdout)
    help_text = " ".join(generated["help"].split())
    assert "--sparkle N How much it sparkles. Default: 3. Example: 7" in help_text
    assert generated["config"] == ["How much it sparkles.", 3]
    assert generated["openapi"] == {
        "default": 3,
        "description": "How much it sparkles.",
        "examples": [7],
        "maximum": 9,
        "minimum": 1,
        "type": "integer",
    }
    assert "| `sparkle` | `3` | How much it sparkles. |" in generated["table"]


@pytest.mark.parametrize("name", ["parameters.md", "retention.md", "settings.md"])
def test_the_tables_of_the_documentation_are_up_to_date(name: str) -> None:
    document = (CHECKOUT / "docs" / name).read_text("utf-8")

    assert re.search(r"^<!-- (parameters of \w+|settings) -->$", document, re.M)
    assert with_tables(document) == document
