"""The file of targets: a YAML mapping from the name of each database to how it is backed up."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from vector_backup_pipeline.parameters.model import requirement
from vector_backup_pipeline.parameters.types import TARGET_PATTERN

# The one in C is ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TargetsFile:
    """The targets of a file, each an instance of `model`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is malformed; the text has the line and the target.
    """

    def __init__(self, path: str, model: type[BaseModel], reserved: Collection[str]) -> None:
        """Targets cannot have `reserved` names."""
        self._path = path
        self._root = self._parse(Path(path).read_text("utf-8"))
        names = {name.replace("-", "_") for name in reserved}
        self.targets: dict[str, Any] = {}
        for key, node in self._root.value:
            name = str(key.value)
            if not re.fullmatch(TARGET_PATTERN, name):
                text = "a name has letters, digits, '_' and '-', at most 100"
                raise self.error((name,), text)
            # Names in Dagster have no dashes.
            if name.replace("-", "_") in names:
                raise self._at(key, name, "the name is taken; '-' and '_' count as equal")
            names.add(name.replace("-", "_"))
            self.targets[name] = self._target(name, node, model)

    def error(self, keys: Sequence[str | int], text: str) -> ValueError:
        """What is wrong at a key of a target; `keys` begins with the target's name."""
        found: yaml.Node = self._root
        node: yaml.Node | None = self._root
        for key in keys:
            entries = node.value if isinstance(node, yaml.MappingNode) else ()
            found, node = next((entry for entry in entries if entry[0].value == key), (found, None))
        return self._at(found, str(keys[0]), text)

    def _at(self, node: yaml.Node, name: str, text: str) -> ValueError:
        line = node.start_mark.line + 1
        return ValueError(f"{self._path}, line {line}: target {name[:100]}: {text}")

    def _parse(self, text: str) -> yaml.MappingNode:
        try:
            root = yaml.compose(text, _Loader)
        except yaml.YAMLError as error:
            # Its text may quote a password.
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise ValueError(f"{self._path}{where}: this is not YAML") from None
        if not isinstance(root, yaml.MappingNode):
            raise ValueError(f"{self._path} is not a mapping from names to targets")
        return root

    def _target(self, name: str, node: yaml.Node, model: type[BaseModel]) -> BaseModel:
        try:
            values = _Loader("").construct_document(node)
        except (yaml.YAMLError, ValueError):
            values = None
        if not isinstance(values, dict):
            raise self.error((name,), "it is not a mapping of keys and values")
        # As in the environment, a blank value counts as not set.
        values = {key: value for key, value in values.items() if value not in (None, "")}
        try:
            return model(**values)
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
        field, fields = None, model.model_fields
        for key in detail["loc"]:
            if key in fields:
                field = fields[str(key)]
                fields = getattr(field.annotation, "model_fields", {})
        if field is None or detail["type"] == "extra_forbidden":
            text = f"Unknown: {detail['loc'][-1]!r}. Known: {', '.join(fields)}"
        else:
            text = f"{'.'.join(map(str, detail['loc']))} {requirement(detail, field)}"
        raise self.error((name, *detail["loc"]), text)
