"""Parts that killed runs left: found and aborted; nobody else's are touched."""

import sys
from datetime import timedelta

import pytest

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage import root as root_module
from vector_backup_pipeline.engine.storage import run_markers
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.faults.object_proxy import Fault, ObjectProxy
from vector_backup_pipeline_tests.fix_object_store import DEAD_AT_ONCE, SECRET, Bucket

_STAMP = "20250101_000000"
_NAME = f"langchain_pg_embedding_{_STAMP}.csv"
_KEY = f"all/vector_bak/{_NAME}"


def _begin(bucket: Bucket, key: str, *parts: bytes) -> None:
    """A multipart upload as a killed process leaves it. moto's all began in 2010."""
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
    (found,) = root.abort_abandoned_uploads(dry_run=True)
    assert (found.location, found.size) == (f"{bucket.url}/{_KEY}", 150)
    assert found.started_at.tzinfo is not None
    assert bucket.unfinished() == [_KEY]

    assert root.abort_abandoned_uploads(dry_run=False) == [found]

    assert bucket.unfinished() == []
    assert root.abort_abandoned_uploads(dry_run=False) == []


@pytest.mark.parametrize(
    "key",
    [
        f"all/task_1/vector_bak/{_NAME}",
        f"all/vector_bak/app.t_{_STAMP}.csv.gz",
        f"all/vector_bak/t%2Fx_{_STAMP}.pgcopy",
    ],
)
def test_those_of_every_place_and_format_are_found(
    bucket: Bucket, root: BackupRoot, key: str
) -> None:
    _begin(bucket, key)
    assert len(root.abort_abandoned_uploads(dry_run=False)) == 1
    assert bucket.unfinished() == []


@pytest.mark.parametrize(
    "key",
    [
        _NAME,
        f"vector_bak/{_NAME}",
        f"all/{_NAME}",
        f"all/elsewhere/{_NAME}",
        f"all/a-b/vector_bak/{_NAME}",
        f"all/vector_bak/deeper/{_NAME}",
        f"all2/vector_bak/{_NAME}",
        "all/vector_bak/holiday.mp4",
    ],
)
def test_what_is_not_ours_stays(bucket: Bucket, root: BackupRoot, key: str) -> None:
    _begin(bucket, key)
    assert root.abort_abandoned_uploads(dry_run=False) == []
    assert bucket.unfinished() == [key]


@pytest.mark.parametrize("said", ["etag", "disabled"])
def test_a_live_runs_uploads_stay_until_its_marker_is_dead(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", said)
    root = BackupRoot(f"{bucket.url}/all", "vector_bak")
    held = root.open(None).claim(f".vector_backup_{_STAMP}.run", "run")
    assert held is not None
    _begin(bucket, _KEY)
    assert root.abort_abandoned_uploads(dry_run=False) == []
    monkeypatch.setattr(run_markers, "DEAD_AFTER", DEAD_AT_ONCE)
    assert len(root.abort_abandoned_uploads(dry_run=False)) == 1
    held.release()


def test_an_upload_that_has_just_begun_stays_though_its_marker_is_gone(
    bucket: Bucket, root: BackupRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(bucket, _KEY)
    monkeypatch.setattr(root_module, "_ABANDONED_WITHOUT_MARKER", timedelta(days=36_500))
    assert root.abort_abandoned_uploads(dry_run=False) == []


def test_the_other_clouds_remove_their_parts_themselves() -> None:
    for url in ("gs://bucket/all", "az://container/all"):
        assert BackupRoot(url, "vector_bak").abort_abandoned_uploads(dry_run=False) == []


def test_what_hinders_it_is_told_without_a_secret(
    bucket: Bucket, root: BackupRoot, monkeypatch: pytest.MonkeyPatch, strict_access: None
) -> None:
    with pytest.raises(StorageError, match="InvalidAccessKeyId") as raised:
        root.abort_abandoned_uploads(dry_run=True)
    assert SECRET not in str(raised.value)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StorageError, match=r"pip install 'vector-backup-pipeline\[s3\]'"):
        root.abort_abandoned_uploads(dry_run=True)


@pytest.mark.parametrize("asked", ["GET", "DELETE"])
def test_one_that_somebody_else_aborts_meanwhile_does_not_keep_the_others(
    bucket: Bucket, object_proxy: ObjectProxy, asked: str
) -> None:
    other = f"all/task_1/vector_bak/{_NAME}"
    for key in (_KEY, other):
        _begin(bucket, key, b"part")
    object_proxy.does(
        Fault(happens=lambda: _abort_all(bucket, _KEY)),
        to=lambda request: request.startswith(f"{asked} ") and _KEY in request,
        times=1,
    )
    found = BackupRoot(f"{bucket.url}/all", "vector_bak").abort_abandoned_uploads(dry_run=False)
    assert f"{bucket.url}/{other}" in {each.location for each in found}
    assert bucket.unfinished() == []


def _abort_all(bucket: Bucket, key: str) -> None:
    listed = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=key)
    for each in listed["Uploads"]:
        bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=each["UploadId"])
