"""Types of settings that are more than a text or a number: read from the text of a variable, and
refused with a reason that never repeats a secret."""

import re
from base64 import b64decode
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from vector_backup_pipeline.engine.encryption import read_identities, read_recipients
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.object_url import is_url, parse_object_url
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.prune import MAX_KEPT_SETS
from vector_backup_pipeline.parameters.table_names import split_tables
from vector_backup_pipeline.parameters.types import Tables

# What a header or a URL can carry unescaped.
_PLAIN = re.compile(r"[!-~]+")
_ALERT_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """A validator that keeps a text unless `check` raises `InvalidParams`."""

    def validate(text: str) -> str:
        try:
            check(text)
        except InvalidParams as error:
            raise ValueError(error.message) from None
        return text

    return AfterValidator(validate)


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{name!r} is not a time zone such as UTC or Asia/Shanghai") from None
    return name


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0 and parts.scheme in ("http", "https")
    except ValueError:
        return False
    return has_host and _PLAIN.fullmatch(url) is not None


def _address(url: str) -> str:
    """An address without its last slash. It may hold a password, so no error repeats it."""
    if not _is_web_address(url) or "?" in url or "#" in url:
        raise ValueError("it is not an address such as http://127.0.0.1:3000")
    return url.rstrip("/")


def _heartbeat(url: str) -> SecretText:
    if not _is_web_address(url):
        raise ValueError("it is not an address such as https://hc-ping.com/your-uuid")
    return SecretText(url)


def split_urls(text: str) -> list[str]:
    """The URLs of a list. A comma inside a URL is part of it."""
    return re.split(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", text.rstrip(", "))


def check_alert_urls(text: str) -> SecretText:
    if not all(_ALERT_URL.fullmatch(url) for url in split_urls(text)):
        raise ValueError(
            "it is not a list of Apprise URLs, separated by commas, such as json://host/path"
        )
    return SecretText(text)


def _token(text: str) -> SecretText:
    if not _PLAIN.fullmatch(text):
        raise ValueError("only printable ASCII characters without blanks are allowed")
    return SecretText(text)


def _secret_key(text: str) -> SecretText:
    """The key in the URL-safe alphabet of base64."""
    text = text.replace("+", "-").replace("/", "_")
    try:
        size = len(b64decode(text, altchars=b"-_", validate=True))
    except ValueError:
        size = 0
    if size != 32:
        raise ValueError("it is not 32 bytes in base64; create a key: openssl rand -base64 32")
    return SecretText(text)


def _parsed(parse: Callable[[str], object]) -> BeforeValidator:
    """A validator that parses a text and keeps any other value."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


Secret = Annotated[SecretText, _parsed(SecretText)]
Token = Annotated[SecretText, _parsed(_token)]
SecretKey = Annotated[SecretText, _parsed(_secret_key)]
AlertUrls = Annotated[SecretText, _parsed(check_alert_urls)]
HeartbeatUrl = Annotated[SecretText, _parsed(_heartbeat)]
WebAddress = Annotated[str, AfterValidator(_address)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Root = Annotated[str, _checked(lambda root: is_url(root) and parse_object_url(root))]
TimestampPattern = Annotated[str, _checked(lambda text: TimestampFormat(text, ZoneInfo("UTC")))]
Recipients = Annotated[str, _checked(read_recipients)]
IdentityFile = Annotated[str, _checked(read_identities)]
TableList = Annotated[Tables, NoDecode, _parsed(split_tables)]
Period = Annotated[Duration, NoDecode, _parsed(Duration.parse)]
Kept = Annotated[int, Field(ge=0, le=MAX_KEPT_SETS)]
