"""Read request bodies: JSON of limited size with the parameters of a model."""

from typing import TypeVar

from fastapi import Request

from vector_backup_pipeline.api.errors import BodyTooLarge
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.requests import MAX_REQUEST_BYTES, parse_request

_P = TypeVar("_P", bound=Parameters)


async def read_body(request: Request, model: type[_P], target: str | None = None) -> _P:
    """The parameters in the body, and the query's `target`; the defaults if it is empty.

    Raises:
        BodyTooLarge: it has more than 64 KiB.
        ClientDisconnect: the connection was closed before the body was complete.
        InvalidParams, MissingRequiredParams: as `parse_request` does.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise BodyTooLarge(
                f"The request's body has more than {MAX_REQUEST_BYTES} bytes. The parameters of a "
                "run need a few hundred."
            )
    return parse_request(bytes(body) if body.strip() else b"{}", model, target)
