"""The flat run config of each job, made from the model of its parameters.

Dagster sees types, choices and required keys, so that the launchpad offers and refuses them. Limits
and combinations are checked by the model when the first step reads its config: callers of GraphQL
could not read an error that is raised inside a config mapping.
"""

from functools import cache
from typing import Any, get_args, get_origin

import dagster as dg
from dagster._config.source import StringSourceType
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from vector_backup_pipeline.operations import Operation
from vector_backup_pipeline.parameters.model import choices, plain_type, shown

# Each of these also takes {"env": "NAME"}, which Dagster resolves where the step runs.
_SOURCES: dict[Any, Any] = {
    bool: dg.BoolSource,
    int: dg.IntSource,
    str: dg.StringSource,
    SecretStr: dg.StringSource,
}


def config_schema(operation: Operation) -> dict[str, dg.Field]:
    """The parameters of the operation as Dagster's config."""
    return {key: _field(field) for key, field in operation.parameters.model_fields.items()}


def flat_config(operation: Operation, first_step: str) -> dg.ConfigMapping:
    """The mapping from the flat run config to `first_step`, which reads the parameters."""
    return dg.ConfigMapping(
        config_fn=lambda config: {"ops": {first_step: {"config": config}}},
        config_schema=config_schema(operation),
    )


def _field(field: FieldInfo) -> dg.Field:
    options: dict[str, Any] = {"is_required": field.is_required(), "description": field.description}
    if not field.is_required() and field.default is not None:
        options["default_value"] = field.default
    elif default := shown(field).default:
        options["description"] += f" Default: {default}."
    return dg.Field(_config_type(field.annotation), **options)


def _config_type(annotation: Any) -> Any:
    plain = plain_type(annotation)
    if type(None) in get_args(annotation):
        return dg.Noneable(_config_type(plain))
    if get_origin(plain) is tuple:
        return dg.Array(_config_type(get_args(plain)[0]))
    if get_origin(plain) is dict:
        return dg.Map(str, dg.StringSource)  # type: ignore[no-untyped-call]  # Dagster's is untyped.
    texts = choices(plain)
    return _choice(texts) if texts else _SOURCES[plain]


class _Choice(StringSourceType):
    """Dagster's source of strings with an enum in place of the plain string."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Dagster's is untyped.
        self.scalar_type = dg.Enum("_or_".join(texts), [dg.EnumValue(text) for text in texts])
        self.key = f"{self.scalar_type.key}_or_env"
        self.type_params = [self.scalar_type, self.non_scalar_type]


# One type for the same choices: Dagster accepts a type's name only once.
_choice = cache(_Choice)
