"""The flat run config of each job, made from the model of its parameters.

Dagster sees types, choices and which keys are required, so that the launchpad offers and refuses
them. Limits and combinations are checked by the model when the first step reads its config: callers
of GraphQL could not read an error that is raised inside a config mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args, get_origin

import dagster as dg
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from vector_backup_pipeline.operations import Operation
from vector_backup_pipeline.parameters.model import choices, plain_type

# Each of these takes {"env": "NAME"} too, which Dagster resolves where the step runs.
_SOURCES: dict[Any, Any] = {
    bool: dg.BoolSource,
    int: dg.IntSource,
    str: dg.StringSource,
    SecretStr: dg.StringSource,
}


def config_schema(operation: Operation) -> dict[str, dg.Field]:
    """The config of the operation's first step: its parameters without the connection string."""
    return _fields(operation, without=operation.connection_key)


def flat_config(operation: Operation, first_step: str) -> dg.ConfigMapping:
    """The mapping from the flat run config to `first_step`, which reads the parameters; the
    connection string goes to its resource instead."""
    key, resource = operation.connection_key, operation.connection_resource

    # Called by Dagster several times a run, so it only rearranges.
    def to_step(config: Mapping[str, Any]) -> dict[str, Any]:
        step = {name: value for name, value in config.items() if name != key}
        mapped: dict[str, Any] = {"ops": {first_step: {"config": step}}}
        if key is not None and config.get(key) is not None:
            mapped["resources"] = {resource: {"config": {key: config[key]}}}
        return mapped

    return dg.ConfigMapping(config_fn=to_step, config_schema=_fields(operation))


def with_log_level(mapping: dg.ConfigMapping, level: str) -> dg.ConfigMapping:
    """The same mapping, with Dagster's log lines on the terminal from that level on."""
    to_step: Callable[[Mapping[str, Any]], dict[str, Any]] = mapping.config_fn
    loggers = {"console": {"config": {"log_level": level}}}
    return dg.ConfigMapping(
        config_fn=lambda config: {**to_step(config), "loggers": loggers},
        config_schema=mapping.config_schema,
    )


def _fields(operation: Operation, *, without: str | None = None) -> dict[str, dg.Field]:
    fields = operation.parameters.model_fields.items()
    return {key: _field(field) for key, field in fields if key != without}


def _field(field: FieldInfo) -> dg.Field:
    given: dict[str, Any] = {"is_required": field.is_required(), "description": field.description}
    default = field.get_default(call_default_factory=True)
    if not field.is_required() and default is not None:
        given["default_value"] = default
    return dg.Field(_config_type(field.annotation), **given)


def _config_type(annotation: Any) -> Any:
    plain = plain_type(annotation)
    if type(None) in get_args(annotation):
        return dg.Noneable(_config_type(plain))
    if get_origin(plain) is tuple:
        return dg.Array(_config_type(get_args(plain)[0]))
    if get_origin(plain) is dict:
        return dg.Map(str, dg.StringSource)  # type: ignore[no-untyped-call]
    texts = choices(plain)
    return _choice(texts) if texts else _SOURCES[plain]


@cache
def _choice(texts: tuple[str, ...]) -> dg.Enum:
    """One type for the same choices, since Dagster takes a name once."""
    return dg.Enum("_or_".join(texts), [dg.EnumValue(text) for text in texts])
