"""Changes of a stored manifest are detected."""

import hashlib
import json
import random
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.manifest import read_manifest
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline_tests.fix_sets import SetWriter, sealed

NAME = "vector_backup_20250102_030405.json"
KEY = SecretText("a key of ours")


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    """A stored manifest."""
    SetWriter(tmp_path).write("20250102_030405", {"t": 1})
    return (tmp_path / NAME).read_bytes()


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = SetWriter(tmp_path).write("20250102_030405")

    data = (tmp_path / NAME).read_bytes()
    read = read_manifest(data, NAME)

    assert read.model_copy(update={"checksum": None}) == written
    assert read.to_json() == data


def test_its_checksum_comes_last_and_is_that_of_its_bytes(data: bytes) -> None:
    document = json.loads(data)

    assert list(document)[-1] == "checksum"
    checksum = document["checksum"].encode()
    assert data.count(checksum) == 1
    assert hashlib.sha256(data.replace(checksum, b"0" * 64)).hexdigest().encode() == checksum


def test_a_malformed_snapshot_is_refused(data: bytes) -> None:
    document = json.loads(data) | {"snapshot": "1:2"}

    with pytest.raises(IntegrityError, match="damaged or was written by another version"):
        read_manifest(sealed(document), NAME)


def test_a_manifest_without_a_checksum_is_refused(data: bytes) -> None:
    document = json.loads(data)
    del document["checksum"]

    for changed in (document, {**document, "checksum": None}):
        with pytest.raises(IntegrityError, match="was changed after it was written"):
            read_manifest(json.dumps(changed).encode(), NAME)


@pytest.fixture
def signed(data: bytes) -> bytes:
    return read_manifest(data, NAME).to_json(KEY)


def test_a_signed_manifest_is_read_with_its_key_and_without_one(signed: bytes) -> None:
    read = read_manifest(signed, NAME, KEY)

    assert read_manifest(signed, NAME) == read
    assert read.to_json(KEY) == signed
    assert KEY.reveal().encode() not in signed


def test_with_a_key_only_manifests_signed_with_it_are_read(data: bytes, signed: bytes) -> None:
    document = json.loads(signed)

    with pytest.raises(IntegrityError, match=r"not signed.*VECTOR_BACKUP_MANIFEST_KEY"):
        read_manifest(data, NAME, KEY)
    with pytest.raises(IntegrityError, match="not signed"):
        read_manifest(sealed({**document, "signature": None}), NAME, KEY)
    for changed, key in (
        (signed, SecretText("another key")),
        (sealed({**document, "complete": False}), KEY),
        (sealed({**document, "signature": "0" * 63 + "1"}), KEY),
    ):
        with pytest.raises(IntegrityError, match=r"signature of the manifest .* does not match"):
            read_manifest(changed, NAME, key)


def test_no_changed_byte_is_accepted(data: bytes) -> None:
    chance = random.Random(1)  # noqa: S311 - any bytes will do
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] = (changed[at] + chance.randrange(1, 256)) % 256
        with pytest.raises(IntegrityError):
            read_manifest(bytes(changed), NAME)


@pytest.mark.parametrize("at", [0, 1, 100, -66, -2, -1])
def test_a_manifest_that_was_cut_is_refused(data: bytes, at: int) -> None:
    with pytest.raises(IntegrityError):
        read_manifest(data[:at], NAME)
