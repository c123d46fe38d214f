"""Which URLs name a place for backups; what is wrong with the others is said without a secret."""

from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.storage.object_url import parse_object_url
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.fix_object_store import Bucket


@pytest.mark.parametrize(
    ("text", "location", "default_path"),
    [
        ("s3://bucket", "s3://bucket", "s3://bucket/vector_bak"),
        ("s3://bucket/", "s3://bucket", "s3://bucket/vector_bak"),
        ("S3://b.c-d/a/b c/", "s3://b.c-d/a/b c", "s3://b.c-d/a/b c/vector_bak"),
        ("gs://bucket/x", "gs://bucket/x", "gs://bucket/x/vector_bak"),
        ("az://container/x", "az://container/x", "az://container/x/vector_bak"),
    ],
)
def test_a_url_of_a_bucket_is_a_root(text: str, location: str, default_path: str) -> None:
    root = BackupRoot(text, "vector_bak")
    assert (root.location, root.default_path) == (location, default_path)


@pytest.mark.parametrize(
    "text",
    [
        "file:///tmp/x",
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
        parse_object_url(text)
    assert "TOPSECRET" not in str(raised.value)


def test_an_unknown_scheme_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(InvalidParams, match="s3://, gs://, az://"):
        parse_object_url("ftp://server/x")


def test_a_roots_relative_paths_begin_with_its_own_last_name(bucket: Bucket) -> None:
    for prefix, relative in {"/x/y": "y/vector_bak", "": f"{bucket.name}/vector_bak"}.items():
        root = BackupRoot(bucket.url + prefix, "vector_bak")
        root.open(None).replace("a.csv", b"")
        found = root.find_path(relative)
        assert found is not None
        assert found.location == root.default_path
        assert root.relative_path(found) == relative


def test_a_url_as_path_below_a_directory_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match="is a URL") as raised:
        BackupRoot(str(tmp_path), "vector_bak").find_path("s3://key:hidden@bucket/vector_bak")
    assert "hidden" not in str(raised.value)
