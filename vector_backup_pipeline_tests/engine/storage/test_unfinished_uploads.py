"""Parts of killed runs are found and aborted; other parts are not touched."""

import sys
from datetime import timedelta

import pytest

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage import root as storage_root
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.faults.object_proxy import Fault, ObjectProxy
from vector_backup_pipeline_tests.fix_object_store import SECRET, Bucket

_STAMP = "20250101_000000"
_NAME = f"langchain_pg_embedding_{_STAMP}.csv"
_KEY = f"all/vector_bak/{_NAME}"
_OTHER_KEY = f"all/task_1/vector_bak/t%2Fx_{_STAMP}.pgcopy.gz"


def _begin(bucket: Bucket, key: str, *parts: bytes) -> None:
    """An unfinished multipart upload of a killed process. In moto, all started in 2010."""
    started = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    for number, part in enumerate(parts, 1):
        bucket.client.upload_part(
            Bucket=bucket.name, Key=key, PartNumber=number, UploadId=started["UploadId"], Body=part
        )


@pytest.fixture
def root(bucket: Bucket) -> BackupRoot:
    return BackupRoot(f"{bucket.url}/all", "vector_bak")


def test_they_are_found_with_their_size_and_a_dry_run_leaves_them(
    bucket: Bucket, root: BackupRoot
) -> None:
    _begin(bucket, _KEY, b"1" * 100, b"2" * 50)
    _begin(bucket, _OTHER_KEY)
    uploads = root.abort_abandoned_uploads(dry_run=True)
    assert {upload.location: upload.size for upload in uploads} == {
        f"{bucket.url}/{_KEY}": 150,
        f"{bucket.url}/{_OTHER_KEY}": 0,
    }
    assert sorted(bucket.unfinished()) == sorted([_KEY, _OTHER_KEY])

    assert root.abort_abandoned_uploads(dry_run=False) == uploads

    assert bucket.unfinished() == []
    assert root.abort_abandoned_uploads(dry_run=False) == []


def test_what_is_not_ours_stays(bucket: Bucket, root: BackupRoot) -> None:
    foreign = [
        _NAME,
        f"vector_bak/{_NAME}",
        f"all/{_NAME}",
        f"all/elsewhere/{_NAME}",
        f"all/a-b/vector_bak/{_NAME}",
        f"all/vector_bak/deeper/{_NAME}",
        f"all2/vector_bak/{_NAME}",
        "all/vector_bak/holiday.mp4",
    ]
    for key in foreign:
        _begin(bucket, key)
    assert root.abort_abandoned_uploads(dry_run=False) == []
    assert sorted(bucket.unfinished()) == sorted(foreign)


def test_an_upload_that_has_just_begun_stays_without_a_marker(
    bucket: Bucket, root: BackupRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(bucket, _KEY)
    monkeypatch.setattr(storage_root, "ABANDONED_WITHOUT_MARKER", timedelta(days=36_500))
    assert root.abort_abandoned_uploads(dry_run=False) == []


def test_what_prevents_it_is_an_error_without_a_secret(
    root: BackupRoot, monkeypatch: pytest.MonkeyPatch, strict_access: None
) -> None:
    with pytest.raises(StorageError, match="InvalidAccessKeyId") as raised:
        root.abort_abandoned_uploads(dry_run=True)
    assert SECRET not in str(raised.value)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StorageError, match=r"pip install 'vector-backup-pipeline\[s3\]'"):
        root.abort_abandoned_uploads(dry_run=True)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_one_that_is_aborted_meanwhile_does_not_prevent_the_others(
    bucket: Bucket, object_proxy: ObjectProxy, method: str
) -> None:
    for key in (_KEY, _OTHER_KEY):
        _begin(bucket, key, b"part")

    def abort() -> None:
        listed = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=_KEY)
        for upload in listed["Uploads"]:
            bucket.client.abort_multipart_upload(
                Bucket=bucket.name, Key=_KEY, UploadId=upload["UploadId"]
            )

    object_proxy.does(
        Fault(happens=abort),
        to=lambda line: line.startswith(f"{method} ") and _KEY in line,
        times=1,
    )
    uploads = BackupRoot(f"{bucket.url}/all", "vector_bak").abort_abandoned_uploads(dry_run=False)
    assert f"{bucket.url}/{_OTHER_KEY}" in {upload.location for upload in uploads}
    assert bucket.unfinished() == []
