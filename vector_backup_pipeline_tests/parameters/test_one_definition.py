"""What is written in a parameter's model alone is seen in all that is made from it."""

from __future__ import annotations

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
    sparkle: Annotated[int, Shown(metavar="N")] = Field(
        default=3, ge=1, le=9, description="How much it sparkles.", examples=[7]
    )
"""
_TELL_ALL = """
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


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the package tells, with one more field in its model of a backup."""
    place = tmp_path_factory.mktemp("copy")
    package = Path(vector_backup_pipeline.__file__).parent
    copy = shutil.copytree(package, place / package.name)
    model = copy / "parameters" / "backup.py"
    last = "    progress_every: ProgressEvery = 50_000\n"
    source = model.read_text()
    assert last in source
    model.write_text(source.replace(last, last + _NEW_FIELD))
    done = subprocess.run(
        [sys.executable, "-c", _TELL_ALL],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place), "VECTOR_BACKUP_ROOT": str(place)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_new_field_is_a_flag(told: dict[str, Any]) -> None:
    words = " ".join(told["help"].split())
    assert "--sparkle N How much it sparkles. Default: 3. Example: 7" in words


def test_a_new_field_is_in_the_schema_of_the_launchpad(told: dict[str, Any]) -> None:
    assert told["config"] == ["How much it sparkles.", 3]


def test_a_new_field_is_in_the_openapi_document(told: dict[str, Any]) -> None:
    assert told["openapi"] == {
        "default": 3,
        "description": "How much it sparkles.",
        "examples": [7],
        "maximum": 9,
        "minimum": 1,
        "type": "integer",
    }


def test_a_new_field_is_in_the_table_of_the_documentation(told: dict[str, Any]) -> None:
    assert "| `sparkle` | `3` | How much it sparkles. |" in told["table"]


@pytest.mark.parametrize("name", ["parameters.md", "retention.md", "settings.md"])
def test_the_tables_of_the_documentation_are_those_of_the_models(name: str) -> None:
    document = (CHECKOUT / "docs" / name).read_text("utf-8")

    assert re.search(r"^<!-- (parameters of \w+|settings) -->$", document, re.M)
    assert with_tables(document) == document
