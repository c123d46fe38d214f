"""An S3 server for this test session: moto, over HTTP."""

import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from vector_backup_pipeline_tests.faults.object_proxy import ObjectProxy
from vector_backup_pipeline_tests.fix_process import child, hears, killed_after

LOOPBACK = "127.0.0.1"
SECRET = "not-to-be-seen-anywhere"
OBJECTS_A_PAGE = 20
# It chooses a free port itself, and exits when its standard input is closed.
_SERVER = f"""
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer({LOOPBACK!r}, 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdout = sys.stderr
sys.stdin.read()
"""


@dataclass
class Bucket:
    """A test's own bucket, with direct access to its contents."""

    name: str
    endpoint: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def all_keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def unfinished(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        listed = self.client.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in listed.get("Uploads", ())]

    def stored(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def put(self, key: str, data: bytes = b"") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto in a separate process, with everything in memory."""
    environment = {
        **os.environ,
        "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 << 20),
        # With Amazon's 1000, a second page would need a thousand objects.
        "MOTO_S3_DEFAULT_MAX_KEYS": str(OBJECTS_A_PAGE),
    }
    with child(
        [sys.executable, "-c", _SERVER],
        seconds=None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as server:
        with killed_after(60, server):
            port = hears(server)
        assert port, "moto did not start."
        yield f"http://{LOOPBACK}:{port}"


@pytest.fixture
def own_aws_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that a user would set for this server, and remove all others of AWS."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def bucket(s3_endpoint: str, own_aws_environment: None) -> Bucket:
    """An empty bucket, and the environment variables for it."""
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    name = f"backups-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return Bucket(name, s3_endpoint, client)


@pytest.fixture
def object_proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectProxy]:
    """A proxy in front of the bucket's server, for all requests except those of `bucket`."""
    with ObjectProxy(bucket.endpoint).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def strict_access(s3_endpoint: str, bucket: Bucket) -> Iterator[None]:
    """Let the server check credentials and refuse ours."""

    def allow_without(count: str) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{s3_endpoint}/moto-api/reset-auth",
            data=count.encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310

    allow_without("0")
    yield
    allow_without("inf")
