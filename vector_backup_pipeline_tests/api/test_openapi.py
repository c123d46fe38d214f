"""The OpenAPI document is complete, and its examples are what its schemas ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from vector_backup_pipeline.api.app import create_app
from vector_backup_pipeline.api.dagster_client import RunEvent, RunReading
from vector_backup_pipeline.api.operations import BACKUP, RESTORE
from vector_backup_pipeline.api.run_answers import end_answer
from vector_backup_pipeline.api.run_progress import RunProgress
from vector_backup_pipeline.engine.errors import (
    InvalidParams,
    MissingRequiredParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.results import RestoreResult
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.api.documented import check_by_schema
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT

Json = dict[str, Any]

_OPERATION_IDS = [
    *("back_up", "backup_status", "cancel_backup", "cancel_restore", "download", "healthz"),
    *("list_sets", "look_at_download", "restore", "restore_status"),
]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Of an installation with a root, and no setting besides."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith(PREFIX):
                environment.delenv(name)
        environment.setenv(PREFIX + "ROOT", str(tmp_path_factory.mktemp("training_data")))
        return create_app(load_settings()).openapi()


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def contents(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Each JSON body: where it is, the status of an answer or "body", and what is told of it."""
    for where, operation in operations(document):
        told = {"body": operation["requestBody"]} if "requestBody" in operation else {}
        for status, answer in (told | operation["responses"]).items():
            content = answer.get("content", {}).get("application/json")
            # A stored file may be JSON of its own form, and HEAD is answered without a body.
            if content is not None and "schema" in content and content["schema"]:
                yield where, status, content


def resolved(document: Json, schema: Json) -> Json:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _check(operation: str, body: Json) -> None:
    """Raise what a call with that body is refused with before a run is made of it."""
    if operation == "backup":
        BACKUP.check(BACKUP.parameters(**body))
    else:
        RESTORE.check(RESTORE.parameters(**body))


def test_it_is_openapi_3_1(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(json.loads(json.dumps(document))).validate()


def test_operation_ids_are_short_and_stable(document: Json) -> None:
    assert sorted(told["operationId"] for _, told in operations(document)) == _OPERATION_IDS


def test_every_address_says_what_it_is_for(document: Json) -> None:
    for where, operation in operations(document):
        assert operation["summary"], where
        assert len(operation["description"]) > 20, where
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}, where


def test_every_parameter_is_described_and_has_an_example(document: Json) -> None:
    for where, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            assert parameter["description"], (where, parameter["name"])
            told = [*schema.get("examples", ()), parameter.get("example")]
            examples = [each for each in told if each is not None]
            # Of a switch the default says all.
            assert examples or schema["type"] == "boolean", (where, parameter["name"])
            for example in examples:
                check_by_schema(document, schema, example)


def test_every_body_and_answer_has_examples_which_its_schema_takes(document: Json) -> None:
    found = list(contents(document))

    assert len(found) > 50
    for where, status, content in found:
        assert content["examples"], (where, status)
        for name, example in content["examples"].items():
            assert example["summary"], (where, status, name)
            check_by_schema(document, content["schema"], example["value"])


def test_every_answer_says_its_own_status_in_its_body(document: Json) -> None:
    for where, status, content in contents(document):
        if status == "body":
            continue
        envelope = resolved(document, content["schema"])["properties"]
        assert envelope["code"]["const"] == int(status), (where, status)
        assert envelope["success"]["const"] is (status < "300"), (where, status)
        for example in content["examples"].values():
            assert example["value"]["code"] == int(status)


def test_every_error_names_the_error_types_that_it_may_have(document: Json) -> None:
    for where, status, content in contents(document):
        if status == "body" or status < "400":
            continue
        envelope = resolved(document, content["schema"])
        told = resolved(document, envelope["properties"]["data"])["properties"]["error_type"]
        error_types = told["enum"] if "enum" in told else [told["const"]]
        assert error_types == sorted(set(error_types)), (where, status)
        for example in content["examples"].values():
            assert example["value"]["data"]["error_type"] in error_types


def test_no_key_that_may_be_missing_has_a_default_in_an_answer(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        if "Error" in name:
            defaults = [key for key, told in schema["properties"].items() if "default" in told]
            assert not defaults, name


def test_the_frameworks_own_error_is_nowhere(document: Json) -> None:
    text = json.dumps(document)
    assert "422" not in text
    assert "ValidationError" not in text


def test_headers_of_refusals_are_told(document: Json) -> None:
    for where, operation in operations(document):
        answers = operation["responses"]
        if "401" in answers:
            assert answers["401"]["headers"]["WWW-Authenticate"]["required"] is True, where
        if "416" in answers:
            assert "Content-Range" in answers["416"]["headers"], where


def test_links_lead_from_a_run_to_its_status_and_its_end(document: Json) -> None:
    known = {operation["operationId"] for _, operation in operations(document)}

    links = [
        link["operationId"]
        for _, operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]

    assert len(links) == 8
    assert set(links) <= known


def test_the_examples_of_bodies_are_what_the_engine_takes(document: Json) -> None:
    for path in ("backup", "restore"):
        told = document["paths"][f"/api/v0/data_pipeline/vector/{path}"]["post"]["requestBody"]
        examples = told["content"]["application/json"]["examples"]
        assert examples
        for example in examples.values():
            _check(path, example["value"])


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("backup", {"task_id": "a-b"}),
        ("backup", {"tables": []}),
        ("backup", {"tables": ["docs", "docs"]}),
        ("backup", {"tables": ["docs."]}),
        ("backup", {"tables": ['"docs']}),
        ("backup", {"batch_size": 0}),
        ("backup", {"progress_every": 0}),
        ("backup", {"task_id": "a" * 201}),
        ("backup", {"batch_size": 10**18}),
        ("backup", {"progress_every": 10**18}),
        ("backup", {"workers": 65}),
        ("backup", {"export_method": "cursor", "format": "binary"}),
        ("backup", {"compression": "lzma"}),
        ("backup", {"compression": "gzip", "compression_level": 10}),
        ("backup", {"compression": "zstd", "compression_level": 23}),
        ("backup", {"compression_level": 3}),
        ("restore", {}),
        ("restore", {"timestamp": "yesterday"}),
        ("restore", {"timestamp": "20251321_000000"}),
        ("restore", {"timestamp": "latest", "task_id": "a", "backup_path": "b"}),
        ("restore", {"timestamp": "latest", "collections": []}),
        ("restore", {"timestamp": "latest", "collections": ["a"], "truncate_before_restore": True}),
        (
            "restore",
            {"timestamp": "latest", "on_conflict": "skip", "truncate_before_restore": True},
        ),
        ("restore", {"timestamp": "latest", "on_conflict": "ignore"}),
        ("restore", {"timestamp": "latest", "rename": {"a": ""}}),
        ("restore", {"timestamp": "latest", "rename": {"a.": "b"}}),
        ("restore", {"timestamp": "latest", "probes": 1001}),
        ("restore", {"timestamp": "latest", "maintenance_work_mem": "2 GB"}),
        ("restore", {"timestamp": "latest", "max_parallel_maintenance_workers": 1025}),
    ],
    ids=str,
)
def test_what_the_engine_refuses_the_schema_refuses(
    document: Json, operation: str, body: Json
) -> None:
    told = document["paths"][f"/api/v0/data_pipeline/vector/{operation}"]["post"]["requestBody"]
    schema = told["content"]["application/json"]["schema"]

    with pytest.raises((InvalidParams, MissingRequiredParams)):
        _check(operation, body)
    with pytest.raises(AssertionError):
        check_by_schema(document, schema, body)


def test_what_a_refused_restore_is_answered_with_is_told(document: Json) -> None:
    error = ResourceNotFound("There is no such set.")
    result = RestoreResult.refused(error, datetime.now(timezone.utc)).as_json()
    told = {
        "vector_restore_result": result,
        "error_type": error.error_type,
        "error": error.message,
        "can_retry": error.can_retry,
    }
    events = [RunEvent("EngineEvent", None, told), RunEvent("RunFailureEvent", None, {})]
    reading = RunReading(RESTORE.job, "FAILURE", 1.0, 2.0, 3.0, events, None, has_more=False)

    answer = end_answer(RESTORE, RunProgress("a-run", reading), None, "/training_data")

    assert answer.status_code == 404
    answers = document["paths"]["/api/v0/data_pipeline/vector/restore"]["post"]["responses"]
    schema = answers["404"]["content"]["application/json"]["schema"]
    check_by_schema(document, schema, json.loads(bytes(answer.body)))


@pytest.mark.parametrize(
    "table",
    ["docs", "App.Docs", "a.b.c", '"my.table"', 'app."my.table"', '"a""b"', "with space", "表"],
)
def test_what_the_engine_takes_for_a_table_the_schema_takes(document: Json, table: str) -> None:
    told = document["paths"]["/api/v0/data_pipeline/vector/backup"]["post"]["requestBody"]

    _check("backup", {"tables": [table]})
    check_by_schema(document, told["content"]["application/json"]["schema"], {"tables": [table]})


def test_without_a_token_no_security_is_told(document: Json) -> None:
    assert "securitySchemes" not in document["components"]
    assert "security" not in json.dumps(document)


def test_with_a_token_every_address_but_health_asks_for_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "API_TOKEN", "a-token-of-thirty-two-characters")

    document = create_app(load_settings()).openapi()

    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]
    for where, operation in operations(document):
        assert operation.get("security") == ([] if where == "get /healthz" else None), where
    assert "a-token" not in json.dumps(document)


def test_another_form_of_timestamps_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "TIMESTAMP_FORMAT", "%Y-%m-%d-%H-%M-%S")

    document = create_app(load_settings()).openapi()

    path = "/api/v0/data_pipeline/vector/backup/files/{timestamp}/{file}"
    told = document["paths"][path]["get"]["parameters"]
    (timestamp,) = (each for each in told if each["name"] == "timestamp")
    check_by_schema(document, timestamp["schema"], "2025-07-21-23-49-14")


def test_it_names_no_path_of_this_machine(document: Json, tmp_path: Path) -> None:
    text = json.dumps(document)
    for path in (str(tmp_path.parent), str(CHECKOUT), str(Path.home()), "/tmp/"):  # noqa: S108
        assert path not in text
