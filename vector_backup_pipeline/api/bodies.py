"""Read request bodies: JSON of limited size with the parameters of a model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from vector_backup_pipeline.api.errors import BodyTooLarge, CallerGone
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.parameters.model import Parameters

# Far more than the parameters need, and small enough to parse without delaying other calls.
MOST_BODY_BYTES = 64 << 10

_P = TypeVar("_P", bound=Parameters)
_NOT_JSON = object()


async def read_body(request: Request, model: type[_P]) -> _P:
    """The parameters in the body; the defaults if it is empty.

    Raises:
        BodyTooLarge: it has more than 64 KiB.
        CallerGone: the connection was closed before the body was complete.
        InvalidParams: it is not a JSON object of valid parameters.
        MissingRequiredParams: a required parameter is missing.
    """
    # {"env": …} is not resolved: the model rejects it as a value of the wrong type.
    return model(**_parsed(await _bounded(request)))


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
    """JSON has one number type: 2.0 is the integer 2."""
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
