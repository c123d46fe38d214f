"""Unfinished multipart uploads in S3: invisible, and paid for.

A killed process leaves them. obstore can't list them, boto3 can.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.object_url import ObjectUrl
from vector_backup_pipeline.engine.storage.s3_environment import S3Environment
from vector_backup_pipeline.engine.storage.store import UnfinishedUpload

# Not every service of S3's kind has all requests.
_UNSUPPORTED_STATUS = {405, 501}


def list_unfinished_uploads(root: ObjectUrl) -> list[UnfinishedUpload]:
    """The unfinished uploads under `root`.

    Raises:
        StorageError: boto3 is not installed, or the store refuses.
    """
    client = S3Environment.read(root.bucket).boto3_client()
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
        except (StorageError, ResourceNotFound):
            return None

    return UnfinishedUpload(path, upload["Initiated"], size, abort)


@contextmanager
def _boto3_errors(action: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code == "NoSuchUpload":
            raise ResourceNotFound(f"Could not {action}: it does not exist.") from None
        advice = (
            "This store does not support it. Let a lifecycle rule remove unfinished uploads"
            if status in _UNSUPPORTED_STATUS
            else "Let these credentials list and abort multipart uploads"
        )
        raise StorageError(
            f"Could not {action}: the server answered {code}. {advice}: docs/storage.md has one to "
            "paste."
        ) from None
    except (BotoCoreError, ResponseParserError) as error:
        raise StorageError(
            f"Could not {action}: {type(error).__name__}. Check the credentials, the endpoint and "
            "the network."
        ) from None
