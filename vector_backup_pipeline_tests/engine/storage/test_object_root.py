"""What a bucket has to itself: folders, missing buckets, credentials, packages."""

import sys
from collections.abc import Callable

import pytest

from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.parameters import is_task_id
from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline_tests.fix_object_store import SECRET, Bucket


def test_looking_makes_nothing(bucket: Bucket) -> None:
    root = ObjectRoot(bucket.url, "vector_bak")
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
    root = ObjectRoot(f"{bucket.url}/{prefix}", "vector_bak")
    assert root.task_ids(is_task_id) == ["task_1"]
    assert root.open("task_1").names() == []
    assert root.find("task_1") is not None


def test_more_files_than_a_page_of_a_listing_are_all_listed(bucket: Bucket) -> None:
    directory = ObjectRoot(bucket.url, "vector_bak").open(None)
    names = [f"t_{number:04}.csv" for number in range(1001)]
    for name in names:
        bucket.put(f"vector_bak/{name}")
    assert directory.names() == names


def test_a_task_is_not_found_by_the_beginning_of_its_name(bucket: Bucket) -> None:
    bucket.put("task_10/notes.txt")
    with pytest.raises(ResourceNotFound):
        ObjectRoot(bucket.url, "vector_bak").open("task_1")


def test_a_missing_bucket_is_no_missing_backup(bucket: Bucket) -> None:
    root = ObjectRoot("s3://there-is-no-such-bucket/x", "vector_bak")
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
    root = ObjectRoot(bucket.url, "vector_bak")
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
        ObjectRoot(bucket.url, "vector_bak").open(None)
