"""S3's usual environment variables, where obstore and boto3 do not read the same out of them.

obstore reads most of them by itself. What is here: an endpoint with or without the bucket in its
host name, plain HTTP on this machine, profiles, and what is known of single services.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vector_backup_pipeline.engine.errors import StorageError

# The first that is set counts, as in obstore.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_TRUE = {"1", "true", "yes", "on", "y"}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
# Aliyun OSS refuses path-style requests, and conditions on a write.
_OSS = ".aliyuncs.com"
# With one of these obstore finds credentials without a profile.
_OTHER_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# A profile's credentials may be a role's, which end; boto3 renews them when it is asked again.
_ASK_AGAIN_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class S3Environment:
    """What the environment says of S3, for one bucket. `endpoint` has no bucket in its host."""

    bucket: str
    endpoint: str | None
    virtual_hosted: bool
    variables: Mapping[str, str]

    @classmethod
    def read(cls, bucket: str, environment: Mapping[str, str] | None = None) -> S3Environment:
        """What the environment says for `bucket`.

        Raises:
            StorageError: the endpoint is no address.
        """
        source = os.environ if environment is None else environment
        variable = next((name for name in _ENDPOINTS if source.get(name)), None)
        endpoint = source[variable] if variable else None
        if endpoint is not None and not _is_address(endpoint):
            # obstore would panic. It may hold a password, and is not repeated.
            raise StorageError(
                f"{variable} is no address of a server. Give it as https://host or "
                "https://host:port (http:// if the server speaks nothing else)."
            )
        plain, has_bucket = _without_bucket(endpoint, bucket)
        said = source.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
        is_oss = _host(plain).endswith(_OSS)
        virtual = said.lower() in _TRUE if said else has_bucket or is_oss
        return cls(bucket, plain, virtual, source)

    def options(self) -> dict[str, Any]:
        """What obstore is told beside what it reads by itself."""
        options: dict[str, Any] = {"virtual_hosted_style_request": self.virtual_hosted}
        if self.endpoint is not None:
            name = "aws_endpoint_url_s3" if self._is_set("AWS_ENDPOINT_URL_S3") else "endpoint"
            options[name] = self._with_bucket() if self.virtual_hosted else self.endpoint
        if not self._is_set("AWS_DISABLE_BULK_DELETE"):
            # We delete one at a time, and not every service knows the other request.
            options["disable_bulk_delete"] = True
        if _host(self.endpoint).endswith(_OSS) and not self._is_set("AWS_CONDITIONAL_PUT"):
            options["conditional_put"] = "disabled"
        if self._region() is not None:
            options["region"] = self._region()
        return options

    def client_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        allowed = self.variables.get("AWS_ALLOW_HTTP", "").lower() in _TRUE
        if allowed or _host(self.endpoint) in _LOOPBACK:
            options["allow_http"] = True
        if self._is_set("AWS_CA_BUNDLE"):
            options["root_certificate"] = self._ca_bundle()
        return options

    def _ca_bundle(self) -> bytes:
        file = Path(self.variables["AWS_CA_BUNDLE"])
        try:
            return file.read_bytes()
        except OSError as error:
            # Not as a file that is not there: that would be taken for an object.
            raise StorageError(
                f"AWS_CA_BUNDLE names {file}, which can't be read: {error.strerror}."
            ) from error

    def credential_provider(self) -> Callable[[], Any] | None:
        """A profile's credentials, as boto3 finds them; None where obstore finds its own."""
        if not self._has_profile():
            return None
        boto3 = boto3_of_extra()
        with _profile_errors():
            credentials = boto3.Session().get_credentials()
        if credentials is None:
            raise StorageError(
                "The AWS profile has no credentials. Check AWS_PROFILE and ~/.aws, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )

        def provide() -> dict[str, Any]:
            frozen = credentials.get_frozen_credentials()
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": datetime.now(timezone.utc) + _ASK_AGAIN_AFTER,
            }

        return provide

    def boto3_client(self) -> Any:
        """A client for what obstore can't ask, of the same service with the same credentials."""
        boto3 = boto3_of_extra()
        from botocore import UNSIGNED
        from botocore.config import Config

        style = "virtual" if self.virtual_hosted else "path"
        unsigned = self.variables.get("AWS_SKIP_SIGNATURE", "").lower() in _TRUE
        config = Config(
            s3={"addressing_style": style if self.endpoint else "auto"},
            signature_version=UNSIGNED if unsigned else "s3v4",
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
        )
        with _profile_errors():
            region = self._region() or boto3.Session().region_name or "us-east-1"
            return boto3.client("s3", endpoint_url=self.endpoint, region_name=region, config=config)

    def _region(self) -> str | None:
        given = self.variables.get("AWS_REGION") or self.variables.get("AWS_DEFAULT_REGION")
        if given or not self._has_profile():
            return given or None
        boto3 = boto3_of_extra()
        with _profile_errors():
            found = boto3.Session().region_name
        return None if found is None else str(found)

    def _has_profile(self) -> bool:
        if any(map(self._is_set, (*_OTHER_CREDENTIALS, "AWS_SKIP_SIGNATURE"))):
            return False
        if self._is_set("AWS_PROFILE"):
            return True
        file = self.variables.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
        return Path(file).expanduser().is_file()

    def _is_set(self, name: str) -> bool:
        return bool(self.variables.get(name))

    def _with_bucket(self) -> str:
        parts = urlsplit(self.endpoint or "")
        return urlunsplit(parts._replace(netloc=f"{self.bucket}.{parts.netloc}"))


def boto3_of_extra() -> Any:
    """boto3, imported when it is needed.

    Raises:
        StorageError: it is not installed.
    """
    try:
        import boto3
    except ImportError as error:
        raise StorageError(
            "This needs the package boto3, which is not installed. Install it: pip install "
            "'vector-backup-pipeline[s3]'"
        ) from error
    return boto3


@contextmanager
def _profile_errors() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except BotoCoreError as error:
        raise StorageError(
            f"The AWS profile can't be used: {error}. Check AWS_PROFILE and ~/.aws, or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return (
            parts.scheme in {"http", "https"}
            and _HOST.fullmatch(parts.hostname or "") is not None
            and parts.port != 0
        )
    except ValueError:
        return False


def _without_bucket(endpoint: str | None, bucket: str) -> tuple[str | None, bool]:
    parts = urlsplit(endpoint or "")
    if endpoint is None or not parts.netloc.startswith(f"{bucket}."):
        return endpoint, False
    return urlunsplit(parts._replace(netloc=parts.netloc.removeprefix(f"{bucket}."))), True


def _host(endpoint: str | None) -> str:
    return urlsplit(endpoint or "").hostname or ""
