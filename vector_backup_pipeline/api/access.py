"""Access control: a bearer token or, without one, this machine only."""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vector_backup_pipeline.api.errors import Unauthorized
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE

HEALTH_PATH = "/healthz"
# Browsers open pages without a token. The page sends the token that a user enters there.
_DOCUMENT_PATHS = ("/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
_DOCUMENT_FILES = "/static-offline-docs/"


@dataclass(frozen=True)
class AccessControl:
    """Lets requests through that have the token, or that are addressed to a loopback name.

    With a token, the health check and the API's documentation are open. Without one, the socket is
    bound to loopback, and this check keeps web pages of other sites from calling the API through a
    browser on this machine, by a form or by DNS rebinding. `refuse` makes the answer to the others.
    """

    app: ASGIApp
    token: SecretText | None
    refuse: Callable[[Unauthorized], ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and (path := scope["path"]) != HEALTH_PATH:
            headers = Headers(scope=scope)
            if self.token is None:
                if not _is_from_here(headers):
                    app = self.refuse(_REMOTE_CALL_REFUSED)
            elif (
                path not in _DOCUMENT_PATHS
                and not path.startswith(_DOCUMENT_FILES)
                and not _has_token(headers, self.token)
            ):
                app = self.refuse(NO_TOKEN)
        await app(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_token(headers: Headers, token: SecretText) -> bool:
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    is_equal = hmac.compare_digest(sent.strip().encode(), token.reveal().encode())
    return scheme.lower() == "bearer" and is_equal


def _is_from_here(headers: Headers) -> bool:
    urls = [f"//{headers.get('host', 'localhost')}", *headers.getlist("origin")]
    try:
        return all(is_loopback(urlsplit(url).hostname or "") for url in urls)
    except ValueError:
        return False


NO_TOKEN = Unauthorized(
    f"Send the header 'Authorization: Bearer' with the token of {API_TOKEN_VARIABLE}."
)
_REMOTE_CALL_REFUSED = Unauthorized(
    "Without a token only calls to 127.0.0.1 or localhost are answered, and none from the pages of "
    f"other sites. Set {API_TOKEN_VARIABLE} to call by another name."
)
