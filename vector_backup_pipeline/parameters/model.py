"""The base of the parameter models: strict, frozen, with errors that name the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import ErrorDetails

from vector_backup_pipeline.engine.errors import Problem, parameter_error

_P = TypeVar("_P", bound="Parameters")

_MAX_PROBLEMS, _MAX_LETTERS = 5, 80

ANY: tuple[object, ...] = ()


@dataclass(frozen=True)
class Shown:
    """How a parameter is shown: its flag and that flag's help, if they are not its name with dashes
    and its description; what applies without it, if its default is None; and whether it names the
    set of a command, which is an argument besides."""

    flag: str | None = None
    flag_help: str | None = None
    default: str | None = None
    is_set: bool = False


@dataclass(frozen=True)
class Exclusion:
    """Values of parameters that no run may combine: some values of each, or `ANY` value."""

    values: Mapping[str, Sequence[object]]
    reason: str

    def applies_to(self, parameters: Parameters) -> bool:
        return all(
            getattr(parameters, key) in values if values else getattr(parameters, key) is not None
            for key, values in self.values.items()
        )

    def as_json_schema(self, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
        properties = {
            key: {"enum": list(values)} if values else {"not": {"enum": [None, ""]}}
            for key, values in self.values.items()
        }
        required = [key for key, values in self.values.items() if fields[key].default not in values]
        return {"description": self.reason, "not": {"required": required, "properties": properties}}


def _add_exclusions(schema: dict[str, Any], model: type[Parameters]) -> None:
    if model.EXCLUSIONS:
        schema["allOf"] = [
            exclusion.as_json_schema(model.model_fields) for exclusion in model.EXCLUSIONS
        ]


class Documented(BaseModel):
    """A model whose fields are described by their docstrings, unless their type or `Field` has a
    description."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():
            # One line in tables, help and schemas.
            field.description = " ".join((field.description or "").split())


class Parameters(Documented):
    """The parameters of one operation. An empty text counts as absent, except for `target`: if a
    script's variable is not set, that must not mean another database.

    Raises:
        InvalidParams, MissingRequiredParams: on construction, with the problems of all parameters.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        defer_build=True,
        json_schema_extra=_add_exclusions,
    )
    # Calls for the API's documentation, by what they do.
    EXAMPLES: ClassVar[dict[str, Any]] = {}
    EXCLUSIONS: ClassVar[Sequence[Exclusion]] = ()
    # Names of files on the machine of the run, which the REST API does not accept.
    LOCAL_FILES: ClassVar[Sequence[str]] = ()

    target: Annotated[str | None, Shown(default="the database of VECTOR_BACKUP_DB_URL")] = Field(
        None, examples=["rag_1"]
    )
    """Target, as named in the file VECTOR_BACKUP_TARGETS. Its database, root and settings are
    used."""

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls: type[_P], values: Any, read: ModelWrapValidatorHandler[_P]) -> _P:
        if isinstance(values, dict):
            values = {
                k: value
                for k, value in values.items()
                if (k, value) == ("target", "") or not _is_absent(cls, k, value)
            }
        try:
            parameters = read(values)
        except ValidationError as error:
            problems = _problems(error, cls)
        else:
            problems = list(parameters.conflicts())
            if not problems:
                return parameters
        # Not inside `except`: the other error, which has the values, would stay as its context.
        raise parameter_error(problems)

    def conflicts(self) -> Iterator[Problem]:
        """What is wrong with the combination of values that are valid by themselves."""
        for exclusion in self.EXCLUSIONS:
            if exclusion.applies_to(self):
                yield Problem(tuple(exclusion.values), f"exclude each other: {exclusion.reason}")

    def as_run_config(self, hide: Callable[[SecretStr], object]) -> dict[str, Any]:
        """The parameters that were set, as a job takes them; `hide` stores a secret elsewhere and
        returns a reference to it."""
        config: dict[str, Any] = {}
        for key, value in self.model_dump(exclude_unset=True).items():
            if isinstance(value, SecretStr):
                value = hide(value)
            config[key] = list(value) if isinstance(value, tuple) else value
        return config


def shown(field: FieldInfo) -> Shown:
    """How the field is shown; the outermost annotation counts."""
    return next((item for item in reversed(field.metadata) if isinstance(item, Shown)), Shown())


def plain_type(annotation: Any) -> Any:
    """The type of a parameter's values, without None and without annotations."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (plain,) = (option for option in get_args(annotation) if option is not NoneType)
        return plain_type(plain)
    return annotation


def choices(annotation: Any) -> tuple[str, ...]:
    """The texts that a parameter of that type can have; none if it is not a choice."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _is_absent(model: type[Parameters], key: str, value: object) -> bool:
    if value not in (None, "") or key not in model.model_fields:
        return False
    field = model.model_fields[key]
    return field.is_required() or (value == "" and plain_type(field.annotation) is str)


def _problems(error: ValidationError, model: type[Parameters]) -> list[Problem]:
    details = error.errors(include_url=False)
    unknown = [str(detail["loc"][0]) for detail in details if detail["type"] == "extra_forbidden"]
    if unknown:
        names = ", ".join(repr(key[:_MAX_LETTERS]) for key in unknown[:_MAX_PROBLEMS])
        return [Problem((), f"Unknown: {names}. Known: {', '.join(model.model_fields)}.")]
    problems = []
    for detail in details[:_MAX_PROBLEMS]:
        key, is_missing = str(detail["loc"][0]), detail["type"] == "missing"
        text = requirement(detail, model.model_fields[key])
        problems.append(Problem((key,), text, is_missing=is_missing))
    return problems


def requirement(detail: ErrorDetails, field: FieldInfo) -> str:
    """What is wrong with the value of a field, without the value."""
    if detail["type"] == "missing":
        return f"is missing. {field.description}"
    if detail["type"] == "string_pattern_mismatch":
        return f"is malformed. {field.description}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    # Such as "Input should be less than or equal to 64".
    return f"must {detail['msg'].partition(' should ')[2].replace('tuple', 'list')}."
