"""The configuration of obstore and boto3 from the usual variables."""

from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.s3_environment import S3Environment
from vector_backup_pipeline_tests.fix_object_store import Bucket

_OSS = "https://oss-cn-hangzhou.aliyuncs.com"
_MINIO = "https://minio.example:9000"


@pytest.fixture(autouse=True)
def environment(own_aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return monkeypatch


def _options(environment: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    for name, value in variables.items():
        environment.setenv(name, value)
    return S3Environment("bucket").obstore_options()


@pytest.mark.parametrize("endpoint", [_OSS, "https://bucket.oss-cn-hangzhou.aliyuncs.com"])
def test_oss_is_virtual_hosted_and_has_no_conditions_by_default(
    environment: pytest.MonkeyPatch, endpoint: str
) -> None:
    options = _options(environment, AWS_ENDPOINT_URL=endpoint)
    assert options["aws_endpoint_url_s3"] == "https://bucket.oss-cn-hangzhou.aliyuncs.com"
    assert options["virtual_hosted_style_request"] is True
    assert options["conditional_put"] == "disabled"
    # obstore reads existing variables itself.
    assert "conditional_put" not in _options(environment, AWS_CONDITIONAL_PUT="etag")


@pytest.mark.parametrize(
    ("style", "endpoint"), [("", _MINIO), ("true", "https://bucket.minio.example:9000")]
)
def test_another_endpoint_is_taken_as_it_is_or_with_the_bucket_in_its_host_name(
    environment: pytest.MonkeyPatch, style: str, endpoint: str
) -> None:
    options = _options(environment, AWS_ENDPOINT_URL=_MINIO, AWS_VIRTUAL_HOSTED_STYLE_REQUEST=style)
    assert options["aws_endpoint_url_s3"] == endpoint
    assert options["virtual_hosted_style_request"] is bool(style)
    assert "conditional_put" not in options


def test_the_endpoint_of_s3_comes_before_that_of_all_services(
    environment: pytest.MonkeyPatch,
) -> None:
    assert "aws_endpoint_url_s3" not in _options(environment)
    options = _options(
        environment,
        AWS_ENDPOINT_URL="https://all.example",
        AWS_ENDPOINT_URL_S3="https://s3.example/storage/v1/s3",
    )
    assert options["aws_endpoint_url_s3"] == "https://s3.example/storage/v1/s3"


def test_a_profile_gives_credentials_and_region(
    environment: pytest.MonkeyPatch, tmp_path: Path, bucket: Bucket
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[backups]\naws_access_key_id = a\naws_secret_access_key = b\nregion = eu-x\n")
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_REGION")
    options = _options(
        environment,
        AWS_SHARED_CREDENTIALS_FILE=str(file),
        AWS_CONFIG_FILE=str(file),
        AWS_PROFILE="backups",
        AWS_ENDPOINT_URL=bucket.endpoint,
    )
    provider = options["credential_provider"]
    assert (provider()["access_key_id"], provider()["secret_access_key"]) == ("a", "b")
    assert provider.config["region"] == "eu-x"
    assert S3Environment("bucket").boto3_client().meta.region_name == "eu-x"
    assert BackupRoot(bucket.url, "vector_bak").open(None).names() == []


def test_boto3_uses_the_same_endpoint(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "https://bucket.oss-cn-hangzhou.aliyuncs.com")
    client = S3Environment("bucket").boto3_client()
    assert client.meta.endpoint_url == _OSS
    assert client.meta.config.s3["addressing_style"] == "virtual"
