"""An OpenAPI document, and what it says of a value."""

from __future__ import annotations

from typing import Any

from jsonschema_rs import Draft202012Validator


def check_by_schema(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Fail unless the value is what that schema of the document asks for."""
    whole = {"components": document["components"], "allOf": [schema]}
    validator = Draft202012Validator(whole, validate_formats=True)
    problems = [f"{each.instance_path}: {each.message}" for each in validator.iter_errors(value)]
    assert not problems, problems
