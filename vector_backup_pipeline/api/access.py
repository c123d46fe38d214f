"""Access control: a bearer token or, without one, this machine only."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vector_backup_pipeline.api.envelope import failure
from vector_backup_pipeline.api.errors import RESPONSES, Unauthorized
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE

OPEN_PATH = "/healthz"
# Browsers open pages without a token. The page sends the token that a user enters there.
DOCUMENT_PATHS = ("/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
DOCUMENT_FILES = "/static-offline-docs/"
_SCHEME = "bearer"


class TokenRequired:
    """Requires `Authorization: Bearer` with the token, except for the health check and the API's
    documentation."""

    def __init__(self, app: ASGIApp, token: SecretText) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        refusal = Unauthorized(
            f"Send the header 'Authorization: Bearer' with the token of {API_TOKEN_VARIABLE}."
        )
        await _refuse(refusal, scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        sent, expected = token.strip().encode(), self._token.reveal().encode()
        return scheme.lower() == _SCHEME and hmac.compare_digest(sent, expected)


class ThisMachineOnly:
    """Accepts only requests addressed to a loopback name.

    The socket is bound to loopback. This check keeps web pages of other sites from calling the API
    through a browser on this machine, by a form or by DNS rebinding.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == OPEN_PATH or _is_from_here(scope):
            await self._app(scope, receive, send)
            return
        refusal = Unauthorized(
            "Without a token only calls to 127.0.0.1 or localhost are answered, and none from the "
            f"pages of other sites. Set {API_TOKEN_VARIABLE} to call by another name."
        )
        await _refuse(refusal, scope, receive, send)


def _is_open(path: str) -> bool:
    return path in (OPEN_PATH, *DOCUMENT_PATHS) or path.startswith(DOCUMENT_FILES)


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_from_here(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    named = [f"//{headers.get('host', 'localhost')}"]
    if "origin" in headers:
        named.append(headers["origin"])
    return all(map(_names_this_machine, named))


def _names_this_machine(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


async def _refuse(refusal: Unauthorized, scope: Scope, receive: Receive, send: Send) -> None:
    answer = failure(
        refusal.http_status,
        refusal.error_type,
        RESPONSES[Unauthorized],
        refusal.message,
        headers={"WWW-Authenticate": "Bearer"},
    )
    await answer(scope, receive, send)
