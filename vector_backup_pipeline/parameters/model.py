"""The base of all parameter models: strict, frozen, and with errors of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vector_backup_pipeline.engine.errors import Problem, parameter_error

_P = TypeVar("_P", bound="Parameters")

_SHOWN_LETTERS, _SHOWN_PROBLEMS = 80, 5
# Looking at tens of thousands takes a while, in which a server answers nobody else.
_MOST_PROBLEMS = 1000
# A value is repeated only if it can't be a connection string.
_PLAIN = re.compile(r"[\w.+-]{0,40}")
_WRONG_TYPES = {
    "int": "must be a whole number.",
    "bool": "must be true or false.",
    "string": "must be text.",
    "tuple": "must be a list.",
    "dict": "must be an object.",
}


@dataclass(frozen=True)
class Shown:
    """How a parameter is shown: its flag and that flag's help, if they are not its name with dashes
    and its description; the placeholder for its value; what decides if it is not given, for a
    default of None."""

    flag: str | None = None
    flag_help: str | None = None
    metavar: str | None = None
    default: str | None = None


@dataclass(frozen=True)
class Example:
    """A call that is worth showing."""

    summary: str
    given: dict[str, Any]


class Parameters(BaseModel):
    """The parameters of one operation.

    Raises:
        InvalidParams, MissingRequiredParams: on construction, with the problems of all parameters.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True
    )
    EXAMPLES: ClassVar[dict[str, Example]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls: type[_P], given: Any, read: ModelWrapValidatorHandler[_P]) -> _P:
        if isinstance(given, dict):
            # Of what must be given, null and nothing are the same as not given.
            given = {
                key: value
                for key, value in given.items()
                if value not in (None, "") or not is_required(cls, key)
            }
        try:
            parameters = read(given)
        except ValidationError as error:
            problems = _problems(error, cls)
        else:
            problems = list(parameters.conflicts())
            if not problems:
                return parameters
        # Not inside `except`: the other error, which has the values, would stay as its context.
        raise parameter_error(problems)

    def conflicts(self) -> Iterator[Problem]:
        """What is wrong with values that are good by themselves."""
        yield from ()

    def as_run_config(self, hide: Callable[[SecretStr], object]) -> dict[str, Any]:
        """The parameters that were given, as a job takes them; `hide` stores a secret elsewhere
        and returns what stands for it."""
        config: dict[str, Any] = {}
        for key, value in self.model_dump(exclude_unset=True).items():
            if isinstance(value, SecretStr):
                value = hide(value)
            config[key] = list(value) if isinstance(value, tuple) else value
        return config


def is_required(model: type[Parameters], key: str) -> bool:
    return key in model.model_fields and model.model_fields[key].is_required()


def shown(field: FieldInfo) -> Shown:
    """All that is said of it; the outermost annotation counts."""
    merged: dict[str, str] = {}
    for each in field.metadata:
        if isinstance(each, Shown):
            merged |= {name: text for name, text in vars(each).items() if text is not None}
    return Shown(**merged)


def plain_type(annotation: Any) -> Any:
    """The type of a parameter's values, without None and without what is annotated."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (plain,) = (each for each in get_args(annotation) if each is not NoneType)
        return plain_type(plain)
    return annotation


def choices(annotation: Any) -> tuple[str, ...]:
    """The texts that a parameter of that type can have; none if it is not a choice."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _problems(error: ValidationError, model: type[Parameters]) -> list[Problem]:
    known = ", ".join(model.model_fields)
    if error.error_count() > _MOST_PROBLEMS:
        text = f"{error.error_count()} keys and values are not parameters. There are: {known}."
        return [Problem((), text)]
    details = error.errors(include_url=False)
    unknown = [str(each["loc"][0]) for each in details if each["type"] == "extra_forbidden"]
    if unknown:
        names = ", ".join(repr(key[:_SHOWN_LETTERS]) for key in unknown[:_SHOWN_PROBLEMS])
        return [Problem((), f"Unknown: {names}. There are: {known}.")]
    return [_problem(each, model) for each in details[:_SHOWN_PROBLEMS]]


def _problem(detail: ErrorDetails, model: type[Parameters]) -> Problem:
    key, kind = str(detail["loc"][0]), detail["type"]
    field = model.model_fields[key]
    if kind == "missing":
        return Problem((key,), f"is missing. {field.description}", is_missing=True)
    return Problem((key,), _text(detail, field))


def _text(detail: ErrorDetails, field: FieldInfo) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("greater_than_equal", "less_than_equal"):
        low, high = _bounds(field)
        return f"is {_value(detail)}; it must be from {low} to {high}."
    if kind == "literal_error":
        expected = ", ".join(choices(field.annotation))
        return f"is {_value(detail)}; it must be one of: {expected}."
    if kind == "too_short":
        return "is empty: name at least one, or leave it out."
    if kind == "string_too_long":
        return f"is too long: at most {context['max_length']} characters are allowed."
    if len(detail["loc"]) > 1:
        return "must hold nothing but texts."
    return _WRONG_TYPES.get(kind.partition("_")[0], f"is not valid: {detail['msg']}.")


def _value(detail: ErrorDetails) -> str:
    """The value that was given, if it can be shown."""
    text = str(detail["input"])
    if not _PLAIN.fullmatch(text):
        return "another value"
    return text if isinstance(detail["input"], int) else repr(text)


def _bounds(field: FieldInfo) -> tuple[object, object]:
    lows = [each.ge for each in field.metadata if isinstance(each, Ge)]
    highs = [each.le for each in field.metadata if isinstance(each, Le)]
    return lows[0], highs[0]
