"""The S3 environment variables that obstore and boto3 interpret differently; and what needs boto3:
credentials, and unfinished uploads, which obstore can't list.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.object_url import ObjectUrl
from vector_backup_pipeline.engine.storage.store import UnfinishedUpload

# The first one that is set counts.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ADDRESS = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?"
)
_TRUE = {"1", "true", "yes", "on", "y"}
# Aliyun OSS refuses path-style requests and conditional writes.
_ALIYUN_OSS = ".aliyuncs.com"


class S3Environment:
    """How to reach a bucket. The host name of `endpoint` does not include the bucket."""

    def __init__(self, bucket: str) -> None:
        """Read the environment variables. Raises `StorageError` if the endpoint is malformed."""
        variable = next((name for name in _ENDPOINTS if os.environ.get(name)), "")
        endpoint = os.environ.get(variable)
        if endpoint is not None and not _ADDRESS.fullmatch(endpoint):
            # obstore would panic. It may contain a password, and is not repeated.
            raise StorageError(
                f"{variable} is not the address of a server. Give it as https://host or "
                "https://host:port (http:// if the server has no TLS)."
            )
        has_bucket = endpoint is not None and f"://{bucket}." in endpoint
        if endpoint is not None:
            endpoint = endpoint.replace(f"://{bucket}.", "://", 1).rstrip("/")
        self.bucket, self.endpoint = bucket, endpoint
        style = os.environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
        self.virtual_hosted = style.lower() in _TRUE if style else has_bucket or _is_oss(endpoint)

    def obstore_options(self) -> dict[str, Any]:
        """Arguments of obstore's S3Store, beside what it reads by itself."""
        options: dict[str, Any] = {
            "virtual_hosted_style_request": self.virtual_hosted,
            # Objects are deleted one at a time, and not every service supports bulk deletion.
            "disable_bulk_delete": True,
        }
        if self.endpoint is not None:
            host = f"://{self.bucket}." if self.virtual_hosted else "://"
            # obstore prefers this one to its other options and variables for an endpoint.
            options["aws_endpoint_url_s3"] = self.endpoint.replace("://", host, 1)
        if _is_oss(self.endpoint) and not os.environ.get("AWS_CONDITIONAL_PUT"):
            options["conditional_put"] = "disabled"
        if not (os.environ.get("AWS_ACCESS_KEY_ID") or _is_unsigned()):
            with _boto3_errors("find credentials"):
                from obstore.auth.boto3 import Boto3CredentialProvider

                options["credential_provider"] = Boto3CredentialProvider(_session())
        return options

    def boto3_client(self) -> Any:
        """A client of the same service with the same credentials, for what obstore can't do."""
        with _boto3_errors("set up the access to S3"):
            from botocore import UNSIGNED
            from botocore.config import Config

            style = "virtual" if self.virtual_hosted else "path"
            config = Config(
                s3={"addressing_style": style if self.endpoint else "auto"},
                signature_version=UNSIGNED if _is_unsigned() else "s3v4",
                retries={"mode": "standard", "max_attempts": 5},
                connect_timeout=10,
                read_timeout=60,
            )
            session = _session()
            region = session.region_name or "us-east-1"
            return session.client("s3", region, endpoint_url=self.endpoint, config=config)


def certificates() -> bytes | None:
    """The file named by AWS_CA_BUNDLE, which boto3 reads by itself."""
    file = os.environ.get("AWS_CA_BUNDLE")
    try:
        return Path(file).read_bytes() if file else None
    except OSError as error:
        raise StorageError(
            f"AWS_CA_BUNDLE names {file}, which cannot be read: {error.strerror}."
        ) from error


def list_unfinished_uploads(root: ObjectUrl) -> list[UnfinishedUpload]:
    """The multipart uploads under `root` left by killed processes: not listed, but billed. Raises
    `StorageError` if boto3 is not installed, or the store refuses."""
    client = S3Environment(root.bucket).boto3_client()
    prefix = f"{root.key}/" if root.key else ""
    pages = client.get_paginator("list_multipart_uploads")
    with _boto3_errors(f"list the unfinished uploads under {root}"):
        return [
            _unfinished_upload(client, root, upload, upload["Key"].removeprefix(prefix))
            for page in pages.paginate(Bucket=root.bucket, Prefix=prefix)
            for upload in page.get("Uploads", ())
        ]


def _unfinished_upload(
    client: Any, root: ObjectUrl, upload: dict[str, Any], path: str
) -> UnfinishedUpload:
    arguments = {"Bucket": root.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}

    def abort() -> None:
        with _boto3_errors(f"abort the upload of {root / path}"):
            client.abort_multipart_upload(**arguments)

    def size() -> int | None:
        try:
            with _boto3_errors(f"list the parts of {root / path}"):
                pages = client.get_paginator("list_parts").paginate(**arguments)
                return sum(int(part["Size"]) for page in pages for part in page.get("Parts", ()))
        except BackupError:
            return None

    return UnfinishedUpload(path, upload["Initiated"], size, abort)


@contextmanager
def _boto3_errors(action: str) -> Iterator[None]:
    """Raise a StorageError if boto3 is not installed or configured, or the request fails."""
    try:
        import boto3  # noqa: F401 - only whether it is installed
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
    except ImportError as error:
        raise StorageError(
            f"Could not {action}: the package boto3 is not installed. Install it: pip install "
            "'vector-backup-pipeline[s3]'"
        ) from error
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        if code == "NoSuchUpload":
            raise ResourceNotFound(f"Could not {action}: it does not exist.") from None
        raise StorageError(
            f"Could not {action}: the server answered {code}.",
            "Let these credentials list and abort multipart uploads. If the store does not support "
            "that, a lifecycle rule can remove them: docs/storage.md has examples.",
        ) from None
    except (BotoCoreError, ResponseParserError, ValueError) as error:
        raise StorageError(
            f"Could not {action}: {error}.",
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws; and the "
            "endpoint and the network.",
        ) from None


def _session() -> Any:
    import boto3

    return boto3.Session(region_name=os.environ.get("AWS_REGION"))


def _is_unsigned() -> bool:
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in _TRUE


def _is_oss(endpoint: str | None) -> bool:
    return (urlsplit(endpoint or "").hostname or "").endswith(_ALIYUN_OSS)
