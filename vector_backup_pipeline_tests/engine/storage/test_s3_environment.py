"""What obstore and boto3 are told, from the variables that people know."""

from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.storage.object_store import open_store
from vector_backup_pipeline.engine.storage.object_url import parse_object_url
from vector_backup_pipeline.engine.storage.s3_environment import S3Environment

_OSS = "https://oss-cn-hangzhou.aliyuncs.com"


def _options(**variables: str) -> dict[str, Any]:
    return S3Environment.read("bucket", variables).options()


@pytest.mark.parametrize("endpoint", [_OSS, "https://bucket.oss-cn-hangzhou.aliyuncs.com"])
def test_oss_is_virtual_hosted_and_has_no_conditions_unless_told_otherwise(endpoint: str) -> None:
    options = _options(AWS_ENDPOINT_URL=endpoint)
    assert options["endpoint"] == "https://bucket.oss-cn-hangzhou.aliyuncs.com"
    assert options["virtual_hosted_style_request"] is True
    assert options["conditional_put"] == "disabled"
    # What is set, obstore reads itself.
    assert "conditional_put" not in _options(AWS_ENDPOINT_URL=endpoint, AWS_CONDITIONAL_PUT="etag")


def test_the_bucket_is_put_into_the_host_of_a_virtual_hosted_endpoint() -> None:
    options = _options(
        AWS_ENDPOINT_URL="https://minio.example:9000", AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true"
    )
    assert options["endpoint"] == "https://bucket.minio.example:9000"


def test_another_endpoint_is_taken_as_it_is() -> None:
    options = _options(AWS_ENDPOINT_URL="https://minio.example:9000")
    assert options["endpoint"] == "https://minio.example:9000"
    assert options["virtual_hosted_style_request"] is False
    assert "conditional_put" not in options
    assert "endpoint" not in _options()


def test_the_endpoint_of_s3_comes_before_that_of_all_services() -> None:
    given = {"AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_S3": "https://s3.example"}
    assert _options(**given)["aws_endpoint_url_s3"] == "https://s3.example"


@pytest.mark.parametrize(
    ("endpoint", "said", "allowed"),
    [
        ("http://127.0.0.1:9000", "", True),
        ("http://localhost:9000", "", True),
        ("http://minio.example:9000", "", False),
        ("http://minio.example:9000", "true", True),
    ],
)
def test_plain_http_needs_no_word_on_this_machine_alone(
    endpoint: str, said: str, allowed: bool
) -> None:
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": said}
    options = S3Environment.read("bucket", variables).client_options()
    assert options.get("allow_http", False) is allowed


def test_a_profile_gives_credentials_and_region(
    tmp_path: Path, own_aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[backups]\naws_access_key_id = a\naws_secret_access_key = b\nregion = eu-x\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "backups")
    environment = S3Environment.read("bucket")
    provide = environment.credential_provider()
    assert provide is not None
    assert (provide()["access_key_id"], provide()["secret_access_key"]) == ("a", "b")
    assert environment.options()["region"] == "eu-x"
    open_store(parse_object_url("s3://bucket"))


def test_boto3_asks_the_same_service(
    own_aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://bucket.oss-cn-hangzhou.aliyuncs.com")
    client = S3Environment.read("bucket").boto3_client()
    assert client.meta.endpoint_url == _OSS
    assert client.meta.config.s3["addressing_style"] == "virtual"
