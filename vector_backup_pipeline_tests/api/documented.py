"""An OpenAPI document, and what it says of a value."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker


def check_by_schema(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Fail unless the value is what that schema of the document asks for."""
    whole = {"components": document["components"], "allOf": [schema]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    problems = [f"{each.json_path}: {each.message}" for each in validator.iter_errors(value)]
    assert not problems, problems
