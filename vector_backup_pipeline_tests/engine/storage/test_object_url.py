"""Which URLs name a place for backups; what is wrong with the others is said without a secret."""

import pytest

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.storage.local import LocalRoot
from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline.engine.storage.object_url import parse_object_url
from vector_backup_pipeline.engine.storage.opening import open_root


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
    root = open_root(text, "vector_bak")
    assert isinstance(root, ObjectRoot)
    assert (root.location, root.default_path) == (location, default_path)


def test_a_path_is_a_root_too() -> None:
    assert isinstance(open_root("backups", "vector_bak"), LocalRoot)


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


def test_a_roots_relative_paths_begin_with_its_own_last_name() -> None:
    for text, relative in {"s3://b/x/y": "y/vector_bak", "s3://b": "b/vector_bak"}.items():
        root = ObjectRoot(text, "vector_bak")
        place = root._at(parse_object_url(root.default_path))
        assert root.relative_path(place) == relative
