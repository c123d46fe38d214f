"""Request bodies: bounded, plain JSON, of the keys and types of a job's run config."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from starlette.requests import ClientDisconnect

from vector_backup_pipeline.api.errors import BodyTooLarge, CallerGone, InvalidTaskId
from vector_backup_pipeline.engine.errors import InvalidParams

# Far more than all parameters can need, and little enough that one who sends them byte by byte
# keeps nobody waiting.
MOST_BODY_BYTES = 64 << 10

# Of what a caller made up.
_SHOWN, _SHOWN_PROBLEMS = 80, 5
# Looking at tens of thousands takes a while, in which nobody else is answered.
_MOST_PROBLEMS = 1000
_NOT_JSON = object()


def body_model(name: str, config: type[dg.Config]) -> type[BaseModel]:
    """The flat config of a job as a strict model: no unknown keys, no value of another type, and
    plain values only, so that nobody reads the workers' environment by `{"env": …}`."""
    fields: dict[str, Any] = {
        key: (field.annotation, field) for key, field in config.model_fields.items()
    }
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **fields)


async def read_body(request: Request, model: type[BaseModel]) -> dict[str, Any]:
    """The keys that the caller gave, checked for their types; none for an empty body.

    Raises:
        BodyTooLarge: it has more than 64 KiB.
        CallerGone: the connection was closed before all of it had come.
        InvalidParams: it is no JSON object, or has an unknown key or a value of another type.
    """
    given = _parsed(await _bounded(request))
    try:
        parameters = model.model_validate(given).model_dump(exclude_unset=True)
    except ValidationError as error:
        refusal = _told(error, model)
    else:
        return _without_empty_task(parameters)
    # Not inside `except`: the other error, which has the values, would stay on ours as its context.
    raise refusal


def _without_empty_task(parameters: dict[str, Any]) -> dict[str, Any]:
    if parameters.get("task_id") == "":
        parameters["task_id"] = None
    return parameters


async def _bounded(request: Request) -> bytes:
    too_large = BodyTooLarge(
        f"The request's body has more than {MOST_BODY_BYTES} bytes. The parameters of a run need "
        "a few hundred."
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MOST_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY_BYTES:
                raise too_large
    except ClientDisconnect:
        raise CallerGone from None
    return bytes(body)


def _parsed(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    given: Any = _NOT_JSON
    with contextlib.suppress(ValueError, RecursionError):
        given = _plain_json(body)
    if given is _NOT_JSON:
        raise InvalidParams(
            'The request\'s body is not JSON in UTF-8. Send an object such as {"workers": 2}.'
        )
    if not isinstance(given, dict):
        raise InvalidParams(
            'The request\'s body is no JSON object. Send one such as {"workers": 2}.'
        )
    return given


def _plain_json(body: bytes) -> Any:
    given = json.loads(body.decode(), parse_constant=_not_json, parse_float=_number)
    for text in _texts(given):
        # JSON can write lone surrogates and NUL; UTF-8 and PostgreSQL can't.
        if "\0" in text.encode().decode():
            raise ValueError("NUL in a text")
    return given


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON.")


def _number(text: str) -> int | float:
    """JSON has one kind of numbers: 2.0 is the integer 2."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _texts(value: Any) -> Iterator[str]:
    # Generators within generators would take time by depth times length.
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            pending += each.keys()
            pending += each.values()
        elif isinstance(each, list):
            pending += each


def _told(error: ValidationError, model: type[BaseModel]) -> InvalidParams:
    """Never with the value itself: it may be a connection string."""
    if error.error_count() > _MOST_PROBLEMS:
        return InvalidParams(
            f"{error.error_count()} keys and values are not those of a run. The keys are: "
            f"{', '.join(model.model_fields)}."
        )
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    unknown = [str(p["loc"][0])[:_SHOWN] for p in problems if p["type"] == "extra_forbidden"]
    if unknown:
        return InvalidParams(
            f"Unknown: {', '.join(map(repr, unknown[:_SHOWN_PROBLEMS]))}. There are: "
            f"{', '.join(model.model_fields)}."
        )
    message = " ".join(
        f"{'.'.join(map(str, p['loc']))[:_SHOWN]}: {p['msg']}." for p in problems[:_SHOWN_PROBLEMS]
    )
    if problems[0]["loc"][0] == "task_id":
        return InvalidTaskId(message)
    return InvalidParams(message)
