"""Uploads in parts of real size: complete or nothing, no remaining parts, bounded memory."""

import hashlib
import subprocess
import sys

import pytest

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage import object_upload
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.object_upload import MEBIBYTE, part_size_for
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.settings import load_settings
from vector_backup_pipeline_tests.fix_object_store import Bucket

_KEY = "vector_bak/t_20250101_000000.csv"
_NAME = "t_20250101_000000.csv"
_BLOCK = bytes(range(256)) * 4096


@pytest.fixture
def directory(bucket: Bucket) -> BackupDirectory:
    return BackupRoot(bucket.url, "vector_bak").open(None)


@pytest.mark.parametrize(
    ("expected", "mebibytes"),
    [(None, 8), (0, 8), (40_000 * MEBIBYTE, 8), (100 << 30, 21), (2 << 40, 420)],
)
def test_a_part_is_large_enough_for_twice_the_expected_size(
    expected: int | None, mebibytes: int
) -> None:
    size = part_size_for(expected)
    assert size == mebibytes * MEBIBYTE
    assert size * object_upload.MAX_PARTS >= 2 * (expected or 0)


def test_a_large_file_is_uploaded_in_equal_parts_and_read_back(
    bucket: Bucket, directory: BackupDirectory
) -> None:
    digest = hashlib.sha256()
    with directory.create(_NAME) as file:
        for _ in range(21):
            file.write(_BLOCK)
            digest.update(_BLOCK)
        assert directory.names() == []
        file.commit()
    assert directory.names() == [_NAME]
    assert directory.stat(_NAME).size == 21 * MEBIBYTE
    again = hashlib.sha256()
    for chunk in directory.read(_NAME):
        assert len(chunk) < 3 * MEBIBYTE
        again.update(chunk)
    assert again.digest() == digest.digest()
    parts = [
        bucket.client.head_object(Bucket=bucket.name, Key=_KEY, PartNumber=number)["ContentLength"]
        for number in (1, 2, 3)
    ]
    assert parts == [8 * MEBIBYTE, 8 * MEBIBYTE, 5 * MEBIBYTE]


def test_the_variable_is_the_size_of_the_parts_in_mebibytes(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_PART_SIZE", "9")
    directory = load_settings(root=bucket.url).open_root().open(None)
    with directory.create(_NAME, expected_size=1 << 40) as file:
        for _ in range(10):
            file.write(_BLOCK)
        file.commit()

    first = bucket.client.head_object(Bucket=bucket.name, Key=_KEY, PartNumber=1)
    assert first["ContentLength"] == 9 * MEBIBYTE


@pytest.mark.parametrize("blocks", [9, 30])
def test_an_upload_that_was_given_up_is_aborted_at_once(
    bucket: Bucket, directory: BackupDirectory, blocks: int
) -> None:
    with pytest.raises(KeyboardInterrupt), directory.create(_NAME) as file:
        for _ in range(blocks):
            file.write(_BLOCK)
        raise KeyboardInterrupt
    assert (bucket.all_keys(), bucket.unfinished()) == ([], [])


def test_a_file_of_too_many_parts_is_refused_with_the_variable_that_helps(
    bucket: Bucket, directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_upload, "MAX_PARTS", 2)
    with (
        pytest.raises(StorageError, match="VECTOR_BACKUP_PART_SIZE"),
        directory.create(_NAME) as file,
    ):
        for _ in range(17):
            file.write(_BLOCK)
    assert bucket.unfinished() == []


def test_memory_does_not_grow_with_the_file(bucket: Bucket) -> None:
    """In a separate process, whose memory nothing else uses."""
    code = _MEASURE.format(url=bucket.url, name=_NAME, blocks=120)
    grown = int(subprocess.check_output([sys.executable, "-c", code], timeout=120))
    # Three parts and the queue. Python and Rust may release a part's memory late.
    assert grown < 80 * MEBIBYTE
    assert bucket.all_keys() == [_KEY]


_MEASURE = """
import os, psutil
from vector_backup_pipeline.engine.storage.root import BackupRoot
directory = BackupRoot("{url}", "vector_bak").open(None)
directory.replace("small", bytes(1 << 20))
directory.delete("small")
process = psutil.Process()
idle = most = process.memory_info().rss
with directory.create("{name}") as file:
    for _ in range({blocks}):
        file.write(os.urandom(1 << 20))
        most = max(most, process.memory_info().rss)
    file.commit()
print(most - idle)
"""
