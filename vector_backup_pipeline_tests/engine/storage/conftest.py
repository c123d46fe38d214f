"""Every kind of store, for the conformance tests. Add a new one to `STORES`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.object_store import ObjectStore
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.fix_object_store import Bucket


def _local(request: pytest.FixtureRequest) -> str:
    folder: Path = request.getfixturevalue("tmp_path")
    return str(folder / "root")


def _s3(request: pytest.FixtureRequest) -> str:
    bucket: Bucket = request.getfixturevalue("bucket")
    return f"{bucket.url}/all/backups"


def _s3_without_conditions(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue("own_aws_environment")
    request.getfixturevalue("monkeypatch").setenv("AWS_CONDITIONAL_PUT", "disabled")
    return _s3(request)


def _memory(request: pytest.FixtureRequest) -> str:
    """obstore's store in memory, without S3 and without a network."""
    store = MemoryStore()
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setattr(ObjectStore, "_open_store", lambda *_: store)
    return "gs://bucket/all/backups"


STORES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "local": _local,
    "memory": _memory,
    "s3": _s3,
    "s3 without conditions": _s3_without_conditions,
}


# For what depends on conditional writes; the other tests need only one of the S3 stores.
EVERY_STORE = pytest.mark.parametrize("location", STORES, indirect=True)


@pytest.fixture(params=["local", "memory", "s3"])
def location(request: pytest.FixtureRequest) -> str:
    return STORES[request.param](request)


@pytest.fixture
def root(location: str) -> BackupRoot:
    return BackupRoot(location, "vector_bak")


@pytest.fixture
def directory(root: BackupRoot) -> BackupDirectory:
    return root.open(None)


@pytest.fixture
def another(location: str) -> BackupDirectory:
    """The same directory, opened as by another process."""
    return BackupRoot(location, "vector_bak").open(None)
