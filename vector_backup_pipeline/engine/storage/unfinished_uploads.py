"""Unfinished multipart uploads in S3, left by killed processes: not listed, but billed.

obstore can't list them, boto3 can.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.object_url import ObjectUrl
from vector_backup_pipeline.engine.storage.s3_environment import S3Environment, boto3_errors
from vector_backup_pipeline.engine.storage.store import UnfinishedUpload


def list_unfinished_uploads(root: ObjectUrl) -> list[UnfinishedUpload]:
    """The unfinished uploads under `root`.

    Raises:
        StorageError: boto3 is not installed, or the store refuses.
    """
    client = S3Environment.read(root.bucket).boto3_client()
    prefix = f"{root.key}/" if root.key else ""
    pages = client.get_paginator("list_multipart_uploads")
    with _client_errors(f"list the unfinished uploads under {root}"):
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
        with _client_errors(f"abort the upload of {root / path}"):
            client.abort_multipart_upload(**arguments)

    def size() -> int | None:
        try:
            with _client_errors(f"list the parts of {root / path}"):
                pages = client.get_paginator("list_parts").paginate(**arguments)
                return sum(int(part["Size"]) for page in pages for part in page.get("Parts", ()))
        except BackupError:
            return None

    return UnfinishedUpload(path, upload["Initiated"], size, abort)


@contextmanager
def _client_errors(action: str) -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        with boto3_errors(action):
            yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        if code == "NoSuchUpload":
            raise ResourceNotFound(f"Could not {action}: it does not exist.") from None
        raise StorageError(
            f"Could not {action}: the server answered {code}.",
            "Let these credentials list and abort multipart uploads. If the store does not support "
            "that, a lifecycle rule can remove them: docs/storage.md has both to paste.",
        ) from None
