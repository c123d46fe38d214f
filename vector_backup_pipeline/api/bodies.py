"""Read request bodies: JSON of limited size with the parameters of a model."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic_core import from_json

from vector_backup_pipeline.api.errors import BodyTooLarge
from vector_backup_pipeline.engine.errors import InvalidParams, Problem, parameter_error
from vector_backup_pipeline.parameters.model import Parameters

# Far more than the parameters need, and small enough to parse without delaying other calls.
MAX_BODY_BYTES = 64 << 10
_LOCAL_FILE = (
    "names a file on the machine of the run, which the REST API does not read. Use vector-backup "
    "there."
)
# PostgreSQL and file names cannot hold NUL. JSON can write it in this way only.
_NUL = b"\\u0000"

_P = TypeVar("_P", bound=Parameters)


async def read_body(request: Request, model: type[_P], target: str | None = None) -> _P:
    """The parameters in the body, and the query's `target`; the defaults if it is empty.

    `{"env": …}` is not resolved: the model rejects it as a value of the wrong type.

    Raises:
        BodyTooLarge: it has more than 64 KiB.
        ClientDisconnect: the connection was closed before the body was complete.
        InvalidParams: it is not a JSON object of valid parameters, or names a local file.
        MissingRequiredParams: a required parameter is missing.
    """
    too_large = BodyTooLarge(
        f"The request's body has more than {MAX_BODY_BYTES} bytes. The parameters of a run need a "
        "few hundred."
    )
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    values = _parse(bytes(body)) if body.strip() else {}
    for key, value in values.items():
        # JSON has one number type: 2.0 is the integer 2.
        if isinstance(value, float) and value.is_integer():
            values[key] = int(value)
    if target and values.setdefault("target", target) != target:
        raise parameter_error([Problem(("target",), "differs in the query and in the body.")])
    local = [Problem((key,), _LOCAL_FILE) for key in model.LOCAL_FILES if key in values]
    if local:
        raise parameter_error(local)
    return model(**values)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError:
        values = None
    if not isinstance(values, dict) or _NUL in body:
        raise InvalidParams(
            "The request's body is not a JSON object in UTF-8 without NUL characters. Send one "
            'such as {"workers": 2}.'
        )
    return values
