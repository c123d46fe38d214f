"""Parts of uploads that nobody will complete: a killed process leaves them, unseen and paid for.

obstore can't list them, S3's own API can. An upload is abandoned when the marker of its run is
dead, or when there is none and the upload began more than an hour ago: a run removes its marker
last, after its uploads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import is_like_a_data_file, is_marker_of_file
from vector_backup_pipeline.engine.storage.contract import AbandonedUpload
from vector_backup_pipeline.engine.storage.object_bucket import Bucket, StoredObject
from vector_backup_pipeline.engine.storage.object_claim import is_alive
from vector_backup_pipeline.engine.storage.object_url import ObjectUrl
from vector_backup_pipeline.engine.storage.s3_environment import S3Environment
from vector_backup_pipeline.parameters.types import is_task_id

_WITHOUT_MARKER = timedelta(hours=1)
_GONE = "NoSuchUpload"
# Not every service of S3's kind has all of S3's requests.
_UNSUPPORTED_STATUS = {405, 501}


def abort_abandoned_uploads(
    bucket: Bucket, root: ObjectUrl, directory: str, *, dry_run: bool
) -> list[AbandonedUpload]:
    """Find the abandoned uploads under `root`, and abort them unless it is a dry run.

    Raises:
        StorageError: boto3 is not installed, or the store refuses.
    """
    client = S3Environment.read(root.bucket).boto3_client()
    runs = _Runs(bucket)
    aborted = []
    for upload in _uploads(client, root, f"{root.key}/" if root.key else ""):
        folder, _, name = upload["Key"].rpartition("/")
        if not (_is_ours(root, folder, directory) and is_like_a_data_file(name)):
            continue
        if not runs.have_left(folder, name, upload["Initiated"]):
            continue
        try:
            told = _told(client, root, upload)
            if not dry_run:
                _abort(client, root.bucket, upload)
        except ResourceNotFound:
            continue  # Somebody else, or a lifecycle rule, has aborted it since it was listed.
        aborted.append(told)
    return aborted


def abort_uploads_of(url: ObjectUrl) -> None:
    """Abort every unfinished upload of one object, for the run that alone may write it.

    Raises:
        StorageError: boto3 is not installed, or the store refuses.
    """
    client = S3Environment.read(url.bucket).boto3_client()
    for upload in _uploads(client, url, url.key):
        if upload["Key"] == url.key:
            with suppress(ResourceNotFound):
                _abort(client, url.bucket, upload)


class _Runs:
    """The runs of each folder, by their markers."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._objects: dict[str, list[StoredObject]] = {}

    def have_left(self, folder: str, name: str, began: datetime) -> bool:
        """Whether the run that began to upload `name` is over."""
        own = [found for found in self._of(folder) if is_marker_of_file(found.name, name)]
        if own:
            return not any(is_alive(self._bucket, marker) for marker in own)
        return self._bucket.now(folder) - began >= _WITHOUT_MARKER

    def _of(self, folder: str) -> list[StoredObject]:
        if folder not in self._objects:
            self._objects[folder] = self._bucket.objects(folder)
        return self._objects[folder]


def _is_ours(root: ObjectUrl, folder: str, directory: str) -> bool:
    """Whether `folder` is a backup directory of this root: its own or a task's."""
    own = (root / directory).key
    if folder == own:
        return True
    task = folder.removesuffix(f"/{directory}")
    above, _, task_id = task.rpartition("/")
    return task != folder and above == root.key and is_task_id(task_id)


def _uploads(client: Any, place: ObjectUrl, prefix: str) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("list_multipart_uploads")
    with _boto3_errors(f"list the unfinished uploads under {place}"):
        for page in pages.paginate(Bucket=place.bucket, Prefix=prefix):
            yield from page.get("Uploads", ())


def _abort(client: Any, bucket: str, upload: dict[str, Any]) -> None:
    with _boto3_errors(f"abort the upload of s3://{bucket}/{upload['Key']}"):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _told(client: Any, root: ObjectUrl, upload: dict[str, Any]) -> AbandonedUpload:
    location = str(ObjectUrl(root.scheme, root.bucket, upload["Key"]))
    size: int | None = 0
    try:
        with _boto3_errors(f"list the parts of {location}"):
            pages = client.get_paginator("list_parts").paginate(
                Bucket=root.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )
            size = sum(part["Size"] for page in pages for part in page.get("Parts", ()))
    except StorageError:
        size = None
    return AbandonedUpload(location, upload["Initiated"], size)


@contextmanager
def _boto3_errors(action: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code == _GONE:
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
