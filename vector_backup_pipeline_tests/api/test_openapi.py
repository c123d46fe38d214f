"""The OpenAPI document is complete, and the examples of requests conform to its schemas."""

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.testclient import TestClient

from vector_backup_pipeline.api.operations import BACKUP, RESTORE
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
from vector_backup_pipeline.engine.results import RestoreResult
from vector_backup_pipeline.operations import check_parameters
from vector_backup_pipeline.settings import load_settings
from vector_backup_pipeline_tests.api.dagster_stand_in import StandIn, event
from vector_backup_pipeline_tests.fix_api import BASE, app_of, check_by_schema
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT

Json = dict[str, Any]

_OPERATION_IDS = [
    *("back_up", "backup_status", "cancel_backup", "cancel_restore", "diff", "download"),
    *("download_headers", "healthz", "list_sets", "metrics", "restore", "restore_status"),
]
_SETTINGS = load_settings()


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The document of an installation with a root and no other settings."""
    return app_of(tmp_path_factory.mktemp("training_data")).openapi()


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def answers(document: Json) -> Iterator[tuple[str, int, Json]]:
    """Each JSON response of the API: its location, status and content."""
    for where, operation in operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json")
            # A stored file may be JSON without this schema. A response to HEAD has no body.
            if content is not None and content["schema"]:
                yield where, int(status), content


def body_of(document: Json, operation: str) -> Json:
    body = document["paths"][f"{BASE}/{operation}"]["post"]["requestBody"]
    content: Json = body["content"]["application/json"]
    return content


def resolved(document: Json, schema: Json) -> Json:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _check(name: str, body: Json) -> None:
    """Raise the error of a call with this body, if it is refused before a launch."""
    operation = BACKUP if name == "backup" else RESTORE
    check_parameters(operation.base.parameters(**body), _SETTINGS)


def test_it_is_openapi_3_1(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(json.loads(json.dumps(document))).validate()


def test_every_address_has_a_stable_id_and_says_what_it_is_for(document: Json) -> None:
    assert sorted(details["operationId"] for _, details in operations(document)) == _OPERATION_IDS
    for where, operation in operations(document):
        assert operation["summary"], where
        assert len(operation["description"]) > 20, where
        assert operation["tags"], where


def test_every_parameter_is_described_and_has_an_example(document: Json) -> None:
    for where, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            assert parameter["description"], (where, parameter["name"])
            examples = schema.get("examples", ())
            # A switch needs no example besides its default.
            assert examples or schema["type"] == "boolean", (where, parameter["name"])
            for example in examples:
                check_by_schema(document, schema, example)


@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_every_body_has_examples_that_conform_and_are_accepted(
    document: Json, operation: str
) -> None:
    content = body_of(document, operation)
    assert content["examples"]
    for example in content["examples"].values():
        assert example["summary"]
        check_by_schema(document, content["schema"], example["value"])
        _check(operation, example["value"])


@pytest.mark.parametrize("operation", [BACKUP, RESTORE], ids=["backup", "restore"])
def test_every_key_of_a_body_is_described_and_has_its_default(
    document: Json, operation: Any
) -> None:
    schema, fields = body_of(document, operation.base.name)["schema"], operation.base.parameters
    assert schema["additionalProperties"] is False
    accepted = [key for key in fields.model_fields if key not in fields.LOCAL_FILES]
    assert list(schema["properties"]) == accepted
    for key, described in schema["properties"].items():
        assert described["description"]
        if key not in schema.get("required", ()):
            assert described.get("default") == fields.model_fields[key].get_default()


def test_every_answer_has_its_own_status(document: Json) -> None:
    documented = list(answers(document))

    assert len(documented) > 40
    for where, status, content in documented:
        envelope = resolved(document, content["schema"])["properties"]
        assert envelope["code"]["const"] == status, (where, status)
        assert envelope["success"]["const"] is (status < 300), (where, status)


def test_the_frameworks_own_error_is_nowhere(document: Json) -> None:
    text = json.dumps(document)
    assert "422" not in text
    assert "ValidationError" not in text


def test_headers_of_refusals_are_documented(document: Json) -> None:
    for where, operation in operations(document):
        responses = operation["responses"]
        if "401" in responses:
            assert responses["401"]["headers"]["WWW-Authenticate"]["required"] is True, where
        if "416" in responses:
            assert "Content-Range" in responses["416"]["headers"], where


_REFUSED_BACKUPS: list[Json] = [
    *({"task_id": task} for task in ("a-b", "a" * 201)),
    *({"tables": tables} for tables in ([], ["docs", "docs"], ["docs."], ['"docs'])),
    *({"batch_size": size} for size in (0, 10**18)),
    *({"progress_every": rows} for rows in (0, 10**18)),
    {"workers": 65},
    {"export_method": "cursor", "format": "binary"},
    {"compression": "lzma"},
    {"compression": "gzip", "compression_level": 10},
    {"compression": "zstd", "compression_level": 23},
    {"compression": "none", "compression_level": 3},
]
# Besides the timestamp.
_REFUSED_RESTORES: list[Json] = [
    *({"timestamp": stamp} for stamp in ("yesterday", "20251321_000000")),
    {"task_id": "a", "backup_path": "b"},
    {"collections": []},
    {"collections": ["a"], "truncate_before_restore": True},
    {"on_conflict": "skip", "truncate_before_restore": True},
    {"on_conflict": "ignore"},
    *({"rename": rename} for rename in ({"a": ""}, {"a.": "b"})),
    {"probes": 1001},
    {"maintenance_work_mem": "2 GB"},
    {"max_parallel_maintenance_workers": 1025},
]


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        *(("backup", body) for body in _REFUSED_BACKUPS),
        *(("restore", {"timestamp": "latest", **body}) for body in _REFUSED_RESTORES),
        ("restore", {}),
    ],
    ids=str,
)
def test_a_body_that_is_refused_does_not_conform(
    document: Json, operation: str, body: Json
) -> None:
    with pytest.raises(BackupError):
        _check(operation, body)
    with pytest.raises(AssertionError):
        check_by_schema(document, body_of(document, operation)["schema"], body)


@pytest.mark.parametrize(
    "table",
    ["docs", "App.Docs", "a.b.c", '"my.table"', 'app."my.table"', '"a""b"', "with space", "表"],
)
def test_a_table_name_that_is_accepted_conforms(document: Json, table: str) -> None:
    _check("backup", {"tables": [table]})
    check_by_schema(document, body_of(document, "backup")["schema"], {"tables": [table]})


def test_a_refused_restore_and_its_status_are_answered_as_documented(
    document: Json, tmp_path: Path, dagster: StandIn
) -> None:
    error = ResourceNotFound("There is no such set.")
    result = RestoreResult.refused(error, datetime.now(timezone.utc)).as_json()
    fields = {"error_type": error.error_type, "error": error.message, "can_retry": error.can_retry}
    dagster.locations = {"backups": [RESTORE.base.job_name]}
    events = [event("EngineEvent", None, vector_restore_result=result, **fields)]

    def end(operation: str) -> None:
        for run in dagster.runs.values():
            run.status, run.events = "FAILURE", events

    dagster.instead = end
    app = app_of(tmp_path, dagster_url=dagster.url)
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post(f"{BASE}/restore", json={"timestamp": "latest"})
        status = client.get(f"{BASE}/restore/{answer.json()['data']['run_id']}")

    for path, method, response in (("", "post", answer), ("/{run_id}", "get", status)):
        responses = document["paths"][f"{BASE}/restore{path}"][method]["responses"]
        schema = responses[str(response.status_code)]["content"]["application/json"]["schema"]
        check_by_schema(document, schema, response.json())
    assert answer.status_code == 404
    assert answer.json()["data"]["response"] == "Vector表恢复失败，请稍后重试"
    assert answer.json()["data"]["result"] == status.json()["data"]["result"] == result
    assert status.json()["data"]["error"] == {
        "error_type": "RESOURCE_NOT_FOUND",
        "code": 404,
        "detail": error.message,
        "can_retry": False,
    }


@pytest.mark.parametrize("token", [None, "a-token-of-thirty-two-characters"])
def test_with_a_token_every_address_but_health_needs_it(tmp_path: Path, token: str | None) -> None:
    document = app_of(tmp_path, **({"api_token": token} if token else {})).openapi()

    if token is None:
        assert "security" not in json.dumps(document)
        return
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]
    for where, operation in operations(document):
        assert operation.get("security") == ([] if where == "get /healthz" else None), where
    assert token not in json.dumps(document)


def test_another_format_of_timestamps_is_documented(tmp_path: Path) -> None:
    document = app_of(tmp_path, timestamp_format="%Y-%m-%d-%H-%M-%S").openapi()

    parameters = document["paths"][f"{BASE}/backup/files/{{timestamp}}/{{file}}"]["get"]
    (timestamp,) = (p for p in parameters["parameters"] if p["name"] == "timestamp")
    check_by_schema(document, timestamp["schema"], "2025-07-21-23-49-14")


def test_it_names_no_path_of_this_machine(document: Json, tmp_path: Path) -> None:
    text = json.dumps(document)
    for path in (str(tmp_path.parent), str(CHECKOUT), str(Path.home()), "/tmp/"):  # noqa: S108
        assert path not in text
