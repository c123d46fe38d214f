"""The file of targets: a YAML mapping from the name of each database to how it is backed up."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from vector_backup_pipeline.parameters.model import requirement

# The one in C is ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Name = Annotated[str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$")]


class TargetsFile:
    """The targets of a file by name, each an instance of `model`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is malformed; the text has the line and the target.
    """

    def __init__(self, path: str, model: type[BaseModel], reserved: Collection[str]) -> None:
        """Targets cannot have `reserved` names."""
        self._path = path
        try:
            root: Any = yaml.compose(Path(path).read_text("utf-8"), _Loader)
            values = _Loader("").construct_document(root)
        except (yaml.YAMLError, AttributeError) as error:
            # Its text may quote a password. An empty file has no attributes.
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise ValueError(f"{path}{line}: this is not YAML") from None
        self._root: yaml.Node = root
        try:
            # mypy accepts no variable as a type.
            targets = TypeAdapter(dict[_Name, model]).validate_python(values)  # type: ignore[valid-type]
        except ValidationError as invalid:
            raise self._refusal(invalid, model) from None
        self.targets: dict[str, Any] = targets
        # Dagster's names have no dashes.
        taken = {name.replace("-", "_") for name in reserved}
        for key, _ in root.value:
            plain = key.value.replace("-", "_")
            if plain in taken:
                raise self._at(key, key.value, "the name is taken; '-' and '_' count as equal")
            taken.add(plain)

    def error(self, keys: tuple[str | int, ...], text: str) -> ValueError:
        """What is wrong at a key of a target; `keys` begins with the target's name."""
        key_node: yaml.Node = self._root
        node: yaml.Node | None = self._root
        for key in keys:
            entries = node.value if isinstance(node, yaml.MappingNode) else ()
            match = (entry for entry in entries if entry[0].value == str(key))
            key_node, node = next(match, (key_node, None))
        return self._at(key_node, str(keys[0]) if keys else "", text)

    def _at(self, node: yaml.Node, name: str, text: str) -> ValueError:
        line = node.start_mark.line + 1
        return ValueError(f"{self._path}, line {line}: target {name[:100]}: {text}")

    def _refusal(self, invalid: ValidationError, model: type[BaseModel]) -> ValueError:
        detail = invalid.errors(include_url=False, include_input=False)[0]
        keys, field, fields = detail["loc"], None, model.model_fields
        for key in keys[1:]:
            if key in fields:
                field = fields[str(key)]
                fields = getattr(field.annotation, "model_fields", {})
        if detail["type"] == "extra_forbidden":
            text = f"Unknown: {keys[-1]!r}. Known: {', '.join(fields)}"
        elif field is None:
            text = "write a name of at most 100 letters, digits, '_' and '-', and a mapping of keys"
        else:
            text = f"{'.'.join(map(str, keys[1:]))} {requirement(detail, field)}"
        return self.error(keys, text)
