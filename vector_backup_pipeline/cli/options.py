"""The options of a command, made from the model of its parameters."""

import csv
import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from vector_backup_pipeline.engine.errors import Problem, parameter_error
from vector_backup_pipeline.parameters.model import Parameters, choices, plain_type, shown
from vector_backup_pipeline.parameters.table_names import split_tables
from vector_backup_pipeline.parameters.types import TableText

_C = TypeVar("_C", bound=Callable[..., object])
_P = TypeVar("_P", bound=Parameters)

_METAVARS: dict[Any, str] = {int: "N", tuple: "A,B", dict: "OLD=NEW"}
_CONNECTION_VARIABLE = "VECTOR_BACKUP_RUN_CONNECTION"
# Ends the name of an option whose parameter is an argument too.
_AS_FLAG = "_flag"


def parameter_options(model: type[_P]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add an option for each field of the model to a command, and an argument for its set. The
    command's first argument is the model with their values."""

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def command(**options: Any) -> int:
            names = [n for n in options if n.removesuffix(_AS_FLAG) in model.model_fields]
            parameters = _read_parameters(model, {name: options.pop(name) for name in names})
            return function(parameters, **options)

        for key, field in reversed(model.model_fields.items()):
            if shown(field).is_set:
                metavar = "SET" if field.is_required() else "[SET]"
                command = _option(key, key + _AS_FLAG, field)(command)
                command = click.argument(key, metavar=metavar, required=False)(command)
            else:
                command = _option(key, key, field)(command)
        return command

    return decorate


def _read_parameters(model: type[_P], options: dict[str, Any]) -> _P:
    """The model with the values of the options; None and () stand for absent options. Errors use
    the keys of the run config."""
    values: dict[str, Any] = {}
    for name, value in options.items():
        key = name.removesuffix(_AS_FLAG)
        field = model.model_fields[key]
        if value is None or value == ():
            continue
        if key in values:
            raise parameter_error(
                [Problem((key, key + _AS_FLAG), "exclude each other. Give one of them.")]
            )
        try:
            values[key] = _value(field, value)
        except ValueError as error:
            raise parameter_error([Problem((key,), str(error))]) from error
    return model(**values)


def as_environment_reference(secret: SecretStr) -> dict[str, str]:
    """A connection string as run config: Dagster stores only the name of an environment variable
    that holds the string."""
    os.environ[_CONNECTION_VARIABLE] = secret.get_secret_value()
    return {"env": _CONNECTION_VARIABLE}


def _option(key: str, name: str, field: FieldInfo) -> Callable[[_C], _C]:
    display, plain = shown(field), plain_type(field.annotation)
    flag = display.flag or "--" + key.replace("_", "-")
    text = display.flag_help or f"{field.description} {_default(field)}"
    if name != key:
        text = f"The same as SET. {text}"
    if plain is bool:
        return click.option(flag, name, is_flag=True, default=None, help=text)
    texts = choices(plain)
    kind = click.Choice(texts) if texts else click.INT if plain is int else click.STRING
    return click.option(
        flag,
        name,
        type=kind,
        metavar=_METAVARS.get(get_origin(plain) or plain),
        multiple=get_origin(plain) is dict,
        help=f"{text} Example: {_example(field.examples)}",
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "Required."
    default = field.get_default(call_default_factory=True)
    if default is False:
        return "Default: off."
    if default is None or default == {}:
        default = shown(field).default or "none"
    return f"Default: {default}."


def _example(examples: list[Any] | None) -> str:
    """The first example, as a user types it."""
    example = (examples or [""])[0]
    if isinstance(example, list):
        return ",".join(example)
    if isinstance(example, dict):
        return " ".join(f"{old}={new}" for old, new in example.items())
    return str(example)


def _value(field: FieldInfo, value: Any) -> Any:
    """An option's value as the model takes it."""
    plain = plain_type(field.annotation)
    if plain is bool:
        # --no-backup is the negation of its parameter.
        return value is not field.default if field.default else value
    if get_origin(plain) is tuple:
        if get_args(plain)[0] == TableText:
            return split_tables(value)
        # One line of CSV: a name with a comma is in double quotes.
        return tuple(next(csv.reader([value]), []))
    return _pairs(value) if get_origin(plain) is dict else value


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        old, separator, new = text.partition("=")
        if not separator:
            raise ValueError(f"is {text!r}; write OLD=NEW, such as docs=restored.docs.")
        if old in pairs:
            raise ValueError(f"gives {old} two new names: {pairs[old]} and {new}.")
        pairs[old] = new
    return pairs
