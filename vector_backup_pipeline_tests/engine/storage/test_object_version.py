"""The version of an object, whatever its store tells of it."""

from datetime import datetime, timezone

import pytest

from vector_backup_pipeline.engine.storage.object_bucket import StoredObject, Version


def _text(e_tag: str | None, version: str | None, size: int = 5, second: int = 0) -> str:
    modified = datetime(2025, 1, 1, 0, 0, second, tzinfo=timezone.utc)
    return StoredObject("a.csv", size, modified, Version(e_tag, version)).version_text


@pytest.mark.parametrize(
    ("e_tag", "version", "text"),
    [
        ('"abc-3"', None, "abc-3"),
        ("0x8D4BCC2E4835CD0", "7", "0x8D4BCC2E4835CD0"),
        ('W/"abc"', "7", "7"),
        (None, "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY/", "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY/"),
        ('"a"b ü%"', None, "a%22b%20%C3%BC%25"),
    ],
)
def test_it_is_the_stores_own(e_tag: str | None, version: str | None, text: str) -> None:
    assert _text(e_tag, version) == text


@pytest.mark.parametrize("e_tag", [None, "", 'W/"abc"'])
def test_where_the_store_has_none_size_and_time_tell(e_tag: str | None) -> None:
    texts = {_text(e_tag, None), _text(e_tag, None, size=6), _text(e_tag, None, second=1)}
    assert len(texts) == 3
