"""What a bucket has to itself: folders, missing buckets, credentials, packages."""

import sys
from collections.abc import Callable

import pytest

from vector_backup_pipeline.engine.catalog.locations import check_root
from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.types import is_task_id
from vector_backup_pipeline_tests.fix_object_store import OBJECTS_A_PAGE, SECRET, Bucket


def test_looking_makes_nothing(bucket: Bucket) -> None:
    root = BackupRoot(bucket.url, "vector_bak")
    root.open(None)
    root.find(None)
    root.task_ids(is_task_id)
    with pytest.raises(ResourceNotFound):
        root.open("task_1")
    assert bucket.all_keys() == []


@pytest.mark.parametrize("prefix", ["", "all/backups/"])
def test_a_folder_made_in_a_console_is_a_task(bucket: Bucket, prefix: str) -> None:
    for key in ("task_1/", "task_1/vector_bak/"):
        bucket.put(prefix + key)
    root = BackupRoot(f"{bucket.url}/{prefix}", "vector_bak")
    assert root.task_ids(is_task_id) == ["task_1"]
    assert root.open("task_1").names() == []
    assert root.find("task_1") is not None


def test_more_files_than_a_page_of_a_listing_are_all_listed(bucket: Bucket) -> None:
    directory = BackupRoot(bucket.url, "vector_bak").open(None)
    names = [f"t_{number:04}.csv" for number in range(2 * OBJECTS_A_PAGE + 1)]
    for name in names:
        bucket.put(f"vector_bak/{name}")
    first = bucket.client.list_objects_v2(Bucket=bucket.name)
    assert (first["KeyCount"], first["IsTruncated"]) == (OBJECTS_A_PAGE, True)
    assert directory.names() == names


def test_a_task_is_not_found_by_the_beginning_of_its_name(bucket: Bucket) -> None:
    bucket.put("task_10/notes.txt")
    with pytest.raises(ResourceNotFound):
        BackupRoot(bucket.url, "vector_bak").open("task_1")


def test_a_missing_bucket_is_no_missing_backup(bucket: Bucket) -> None:
    root = BackupRoot("s3://there-is-no-such-bucket/x", "vector_bak")
    looks: list[Callable[[], object]] = [
        lambda: root.open(None),
        lambda: root.find(None),
        lambda: root.open("task_1"),
        lambda: root.task_ids(is_task_id),
        lambda: root.find_path(root.location),
        lambda: root.abort_abandoned_uploads(dry_run=True),
    ]
    for look in looks:
        with pytest.raises(StorageError) as raised:
            look()
        assert "NoSuchBucket" in str(raised.value)


def test_wrong_credentials_are_told_and_not_shown(bucket: Bucket, strict_access: None) -> None:
    root = BackupRoot(bucket.url, "vector_bak")
    for look in (root.open, root.find):
        with pytest.raises(StorageError, match=r"InvalidAccessKeyId.*AWS_ACCESS_KEY_ID") as raised:
            look(None)
        assert SECRET not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_a_package_that_is_not_installed_is_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageError, match=r"pip install 'vector-backup-pipeline\[s3\]'"):
        BackupRoot(bucket.url, "vector_bak").open(None)


def _looks(bucket: Bucket) -> list[Callable[[], object]]:
    root = BackupRoot(bucket.url, "vector_bak")
    return [
        lambda: root.find(None),
        lambda: root.open(None),
        lambda: root.abort_abandoned_uploads(dry_run=True),
    ]


@pytest.mark.parametrize(
    "endpoint",
    [
        "minio.internal:9000",
        "127.0.0.1:9000",
        "minio",
        "ftp://u:hidden@host",
        "http://[bad",
        "http://u:hidden@a b",
    ],
)
def test_an_endpoint_that_is_no_address_is_told_and_not_shown(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for look in _looks(bucket):
        with pytest.raises(StorageError, match="AWS_ENDPOINT_URL is not the address") as raised:
            look()
        assert "hidden" not in str(raised.value)


def test_certificates_that_are_not_there_are_no_missing_backup(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/there/is/no/ca.pem")
    for look in _looks(bucket)[:2]:
        with pytest.raises(StorageError, match=r"AWS_CA_BUNDLE names /there/is/no/ca\.pem"):
            look()


def test_a_profile_that_is_not_there_is_an_error_of_ours(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "mistyped")
    for look in _looks(bucket):
        with pytest.raises(StorageError, match=r"\(mistyped\).*AWS_PROFILE"):
            look()


def test_a_key_that_nobody_can_list_is_named(bucket: Bucket) -> None:
    bucket.put("vector_bak//foreign")
    with pytest.raises(StorageError, match=r'"vector_bak//".*remove or rename it'):
        BackupRoot(bucket.url, "vector_bak").open(None).names()


def test_a_mistyped_prefix_is_no_root_without_backups(bucket: Bucket) -> None:
    bucket.put("all/vector_bak/notes.txt")
    check_root(BackupRoot(f"{bucket.url}/all", "vector_bak"))
    check_root(BackupRoot(bucket.url, "vector_bak"))
    with pytest.raises(ResourceNotFound, match=r"/al, the root of all backups.*VECTOR_BACKUP_ROOT"):
        check_root(BackupRoot(f"{bucket.url}/al", "vector_bak"))
