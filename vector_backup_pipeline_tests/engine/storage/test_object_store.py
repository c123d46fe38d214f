"""Only of a bucket: URLs, folders, services without conditions, credentials, packages."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.catalog.locations import check_root
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage import object_store
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.faults.object_proxy import ObjectProxy
from vector_backup_pipeline_tests.fix_object_store import OBJECTS_A_PAGE, SECRET, Bucket

_MARKER = ".vector_backup_20250101_000000.run"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://b.c-d/a/b c/", "s3://b.c-d/a/b c"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("az://container/x", "az://container/x"),
    ],
)
def test_a_url_of_a_bucket_is_a_root(text: str, location: str) -> None:
    root = BackupRoot(text, "vector_bak")
    assert (root.location, root.default_path) == (location, f"{location}/vector_bak")


@pytest.mark.parametrize(
    "text",
    [
        "https://bucket.s3.amazonaws.com/x",
        "s3://",
        "s3:///x",
        "s3://bucket//x",
        "s3://bucket/a/../b",
        "s3://KEY:TOPSECRET@bucket/x",
        "az://container/x?sig=TOPSECRET",
        "s3://bucket/x#TOPSECRET",
    ],
)
def test_another_url_is_refused_and_no_secret_of_it_repeated(text: str) -> None:
    with pytest.raises(InvalidParams) as raised:
        BackupRoot(text, "vector_bak")
    assert "TOPSECRET" not in str(raised.value)


def test_a_url_as_path_below_a_directory_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match="is a URL") as raised:
        BackupRoot(str(tmp_path), "vector_bak").find_path("s3://key:hidden@bucket/vector_bak")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(("prefix", "name"), [("/x/y", "y"), ("", None)])
def test_a_relative_path_begins_with_the_last_name_of_the_root(
    bucket: Bucket, prefix: str, name: str | None
) -> None:
    root = BackupRoot(bucket.url + prefix, "vector_bak")
    root.open(None).replace("a.csv", b"")
    directory = root.find_path(f"{name or bucket.name}/vector_bak")
    assert directory is not None
    assert directory.location == root.default_path
    assert root.relative_path(directory) == f"{name or bucket.name}/vector_bak"


def test_looking_creates_nothing(bucket: Bucket) -> None:
    root = BackupRoot(bucket.url, "vector_bak")
    root.open(None)
    root.find(None)
    root.task_ids()
    bucket.put("task_10/notes.txt")
    with pytest.raises(ResourceNotFound):
        root.open("task_1")
    assert bucket.all_keys() == ["task_10/notes.txt"]


@pytest.mark.parametrize("prefix", ["", "all/backups/"])
def test_a_folder_made_in_a_console_is_a_task(bucket: Bucket, prefix: str) -> None:
    for key in ("task_1/", "task_1/vector_bak/"):
        bucket.put(prefix + key)
    root = BackupRoot(f"{bucket.url}/{prefix}", "vector_bak")
    assert root.task_ids() == ["task_1"]
    assert root.open("task_1").names() == []
    assert root.find("task_1") is not None


def test_more_files_than_a_page_of_a_listing_are_all_listed(bucket: Bucket) -> None:
    directory = BackupRoot(bucket.url, "vector_bak").open(None)
    names = [f"t_{number:04}.csv" for number in range(2 * OBJECTS_A_PAGE + 1)]
    for name in names:
        bucket.put(f"vector_bak/{name}")
    assert bucket.client.list_objects_v2(Bucket=bucket.name)["IsTruncated"]
    assert directory.names() == names


def test_a_key_that_can_t_be_listed_is_named(bucket: Bucket) -> None:
    bucket.put("vector_bak//foreign")
    with pytest.raises(StorageError, match=r'"vector_bak//".*remove or rename it'):
        BackupRoot(bucket.url, "vector_bak").open(None).names()


def test_a_mistyped_prefix_is_not_a_root_without_backups(bucket: Bucket) -> None:
    bucket.put("all/vector_bak/notes.txt")
    check_root(BackupRoot(f"{bucket.url}/all", "vector_bak"))
    check_root(BackupRoot(bucket.url, "vector_bak"))
    with pytest.raises(ResourceNotFound, match=r"/al, the root of all backups.*VECTOR_BACKUP_ROOT"):
        check_root(BackupRoot(f"{bucket.url}/al", "vector_bak"))


def test_a_service_that_refuses_conditional_writes_is_used_without_them(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    object_proxy.refuses_conditions = True
    first, second = (BackupRoot(bucket.url, "vector_bak").open(None) for _ in range(2))
    held = first.claim(_MARKER, "run")
    assert held is not None
    assert second.claim(_MARKER, "run") is None
    for directory in (first, second):
        directory.append("log.txt", "text\n")
    held.release()
    assert bucket.all_keys() == ["vector_bak/log.txt"]
    assert bucket.stored("vector_bak/log.txt") == b"text\ntext\n"


def test_the_announcement_of_a_process_that_was_killed_expires(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    monkeypatch.setattr(object_store, "TURN_EXPIRES_AFTER", timedelta())
    bucket.put(f"vector_bak/{_MARKER}.0123456789abcdef0123456789abcdef.tmp")
    held = BackupRoot(bucket.url, "vector_bak").open(None).claim(_MARKER, "run")
    assert held is not None
    assert bucket.all_keys() == [f"vector_bak/{_MARKER}"]
    held.release()


def _uses(root: BackupRoot) -> list[Callable[[], object]]:
    return [
        lambda: root.open(None),
        lambda: root.find(None),
        lambda: root.open("task_1"),
        root.task_ids,
        lambda: root.find_path(root.location),
        lambda: root.abort_abandoned_uploads(dry_run=True),
    ]


def test_a_missing_bucket_is_not_a_missing_backup(bucket: Bucket) -> None:
    for use in _uses(BackupRoot("s3://there-is-no-such-bucket/x", "vector_bak")):
        with pytest.raises(StorageError, match="NoSuchBucket"):
            use()


def test_wrong_credentials_are_named_and_not_shown(bucket: Bucket, strict_access: None) -> None:
    for use in _uses(BackupRoot(bucket.url, "vector_bak"))[:2]:
        with pytest.raises(StorageError, match=r"InvalidAccessKeyId.*AWS_ACCESS_KEY_ID") as raised:
            use()
        assert SECRET not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_a_package_that_is_not_installed_is_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageError, match=r"pip install 'vector-backup-pipeline\[s3\]'"):
        BackupRoot(bucket.url, "vector_bak").open(None)


@pytest.mark.parametrize(
    "endpoint",
    ["minio.internal:9000", "minio", "ftp://u:hidden@host", "http://[bad", "http://u:hidden@a"],
)
def test_an_endpoint_that_is_malformed_is_an_error_that_does_not_show_it(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for use in _uses(BackupRoot(bucket.url, "vector_bak")):
        with pytest.raises(StorageError, match="AWS_ENDPOINT_URL is not the address") as raised:
            use()
        assert "hidden" not in str(raised.value)


def test_certificates_that_are_missing_are_not_a_missing_backup(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/ca.pem")
    with pytest.raises(StorageError, match=r"AWS_CA_BUNDLE names /no/ca\.pem"):
        BackupRoot(bucket.url, "vector_bak").find(None)


@pytest.mark.parametrize(("profile", "reason"), [("mistyped", r"\(mistyped\)"), ("", "None")])
def test_without_credentials_or_with_a_missing_profile_the_variables_are_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, profile: str, reason: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(StorageError, match=f"{reason}.*AWS_ACCESS_KEY_ID.*AWS_PROFILE"):
        BackupRoot(bucket.url, "vector_bak").find(None)
