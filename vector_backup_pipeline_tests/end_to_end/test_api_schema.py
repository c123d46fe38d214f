"""The API's responses conform to its OpenAPI document, whatever the request."""

import copy
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline_tests.end_to_end.callers import TASK, Called, Stage
from vector_backup_pipeline_tests.end_to_end.graphql_proxy import GraphQLProxy, proxy_before
from vector_backup_pipeline_tests.fix_api import BASE, Api, check_by_schema, serving, settings_of
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, DagsterDev

_CHECKS = "vector_backup_pipeline_tests.end_to_end.schema_checks"
_ELSEWHERE = {
    "langchain_pg_collection": "by_schema.collections",
    "langchain_pg_embedding": "by_schema.embeddings",
}


@pytest.fixture(scope="module")
def restored(stage: Stage, answers: Mapping[str, Called]) -> Called:
    """The task's backup, restored into other tables."""
    assert answers["task"].answer.status_code == 200, answers["task"].body
    body = {"timestamp": "latest", "task_id": TASK, "rename": _ELSEWHERE}
    return Called(stage.api.restore(body))


@pytest.fixture(scope="module")
def ended_runs(answers: Mapping[str, Called], restored: Called) -> dict[str, list[str]]:
    """Runs of each operation."""
    return {
        "backup": [answers[name].data["run_id"] for name in ("task", "no table")],
        "restore": [restored.data["run_id"]],
    }


@pytest.fixture(scope="module")
def gate(dagster_dev: DagsterDev, ended_runs: dict[str, list[str]]) -> Iterator[GraphQLProxy]:
    runs = {f"vector_{operation}_job": run_ids for operation, run_ids in ended_runs.items()}
    with proxy_before(dagster_dev.webserver, runs) as gate:
        yield gate


@pytest.fixture(scope="module")
def gated_api(
    dagster_dev: DagsterDev, gate: GraphQLProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """An API whose launches start no runs."""
    directory = tmp_path_factory.mktemp("gated_api")
    with serving(directory, gate.url, settings_of(dagster_dev)) as running:
        yield running


@pytest.fixture
def api(stage: Stage) -> Api:
    return stage.api


def test_what_real_runs_lead_to_is_what_the_document_says(
    api: Api, answers: Mapping[str, Called], restored: Called
) -> None:
    document = api.http.get("/openapi.json").json()

    documented = [("backup", called) for called in answers.values()] + [("restore", restored)]
    for operation, called in documented:
        responses = document["paths"][f"{BASE}/{operation}"]["post"]["responses"]
        response = responses[str(called.answer.status_code)]
        check_by_schema(document, response["content"]["application/json"]["schema"], called.body)
    assert restored.answer.status_code == 200


def test_whatever_is_sent_the_answer_is_one_of_the_document(
    gated_api: Api,
    gate: GraphQLProxy,
    answers: Mapping[str, Called],
    ended_runs: dict[str, list[str]],
    tmp_path: Path,
) -> None:
    tables = answers["task"].data["tables_backed_up"]
    file = tables["langchain_pg_embedding"]["backup_file"]
    document = gated_api.http.get("/openapi.json").json()
    document = _about_what_is_there(document, file, ended_runs)
    (tmp_path / "openapi.json").write_text(json.dumps(document))

    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json"),
            *("--url", str(gated_api.http.base_url), "--checks", "all"),
            # 503 is a documented response: the database of a run may be unavailable.
            *("--exclude-checks", "not_a_server_error"),
            *("--generation-deterministic", "--max-examples", "3", "--no-color"),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(CHECKOUT),
            "SCHEMATHESIS_HOOKS": _CHECKS,
        },
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 12" in done.stdout
    # Some bodies passed all checks and led to a launch.
    assert len(gate.times("Launch")) > 20


def _about_what_is_there(
    document: dict[str, Any], file: str, ended_runs: dict[str, list[str]]
) -> dict[str, Any]:
    """The document with examples of existing runs, sets and files. Values that no schema can
    describe are limited to valid ones."""
    document = copy.deepcopy(document)
    stamp = file.removeprefix("langchain_pg_embedding_").partition(".")[0]
    for path, methods in document["paths"].items():
        operation = "restore" if path.startswith(f"{BASE}/restore") else "backup"
        names = {
            "run_id": ended_runs[operation],
            "timestamp": [stamp],
            "from": [stamp],
            "to": [stamp],
            "file": [file, f"vector_backup_{stamp}.json", "vector_backup_log.txt"],
        }
        for method in methods.values():
            # There are no targets here.
            parameters = [p for p in method.get("parameters", ()) if p["name"] != "target"]
            method["parameters"] = parameters
            for parameter in parameters:
                if parameter["name"] in names:
                    parameter["schema"]["examples"] = names[parameter["name"]]
            if "requestBody" in method:
                keys = method["requestBody"]["content"]["application/json"]["schema"]["properties"]
                keys.pop("target", None)
                keys["db_connection"] = {
                    "type": ["string", "null"],
                    "pattern": "^postgresql://[a-z]{1,8}:[a-z]{1,8}@[a-z]{1,8}:[1-9][0-9]{3}/[a-z]$",
                }
                if "backup_path" in keys:
                    keys["backup_path"] = {
                        "type": ["string", "null"],
                        "pattern": "^(root/[a-z]{1,8})?$",
                    }
    return document


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /%zz HTTP/1.1",
        f"GET {BASE}/backup/%ff%00%e0%80 HTTP/1.1",
        f"GET {BASE}/backup/files/%2e%2e/%2e%2e%2f%2e%2e HTTP/1.1",
        f"GET {BASE}/backup/files/../../../etc/passwd HTTP/1.1",
        f"GET {BASE}/restore/list?task_id=%zz%ff HTTP/1.1",
        f"GET {BASE}/restore/list?global_only=perhaps HTTP/1.1",
        f"POST {BASE}/backup?wait=perhaps HTTP/1.1",
        f"BREW {BASE}/backup HTTP/1.1",
        f"DELETE {BASE}/restore/list HTTP/1.1",
        "GET /unknown HTTP/1.1",
        "nonsense",
        f"GET /unknown HTTP/1.1\r\nX-Long: {'x' * 1_000_000}",
        f"GET /{'x' * 1_000_000} HTTP/1.1",
        f"POST {BASE}/backup HTTP/1.1\r\nContent-Length: -1",
        f"POST {BASE}/backup HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=lambda line: line[:60],
)
def test_what_is_no_request_of_the_document_is_refused(api: Api, request_line: str) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as connection:
        head = f"{request_line}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = _sent(connection, head.encode())

    status, _, rest = answer.partition(b"\r\n")
    head_lines, _, body = rest.partition(b"\r\n\r\n")
    assert status.split()[1].startswith(b"4"), answer[:200]
    if b"application/json" in head_lines:
        content = json.loads(body)
        assert content["code"] == int(status.split()[1])
        assert content["success"] is False
        assert content["data"]["error_type"] != "INTERNAL_ERROR"
    else:
        # The HTTP server's response to what is not a request.
        assert body == b"Invalid HTTP request received."
    assert b"/tmp" not in answer


def _sent(connection: socket.socket, request: bytes) -> bytes:
    """The complete response, even if the server responds before it has read everything."""
    answer = b""
    try:
        connection.sendall(request)
        while part := connection.recv(1 << 16):
            answer += part
    except ConnectionError:
        pass
    return answer


def test_every_refusal_says_in_its_headers_what_would_do(api: Api) -> None:
    run = f"{BASE}/backup/9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"
    file = f"{BASE}/backup/files/20200101_000000/x.csv"
    allowed = {
        f"{BASE}/backup": "POST",
        run: "DELETE, GET",
        f"{BASE}/restore/list": "GET",
        file: "GET, HEAD",
        "/healthz": "GET",
        "/openapi.json": "GET, HEAD",
        "/docs": "GET",
        "/static-offline-docs/swagger-ui.css": "GET, HEAD",
    }

    for address, methods in allowed.items():
        answer = api.http.patch(address)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)
        assert answer.json()["data"]["error_type"] == "METHOD_NOT_ALLOWED"
    refused = api.http.get(f"{BASE}/restore/list", headers={"Origin": "https://elsewhere.example"})
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_the_page_of_the_document_is_all_this_services_own(api: Api) -> None:
    page = api.http.get("/docs")

    assert page.status_code == 200
    assert "https://" not in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 3
    for file in files:
        assert api.http.get(file).status_code == 200
    assert api.http.get("/static-offline-docs/no.js").json()["data"]["error_type"] == (
        "RESOURCE_NOT_FOUND"
    )


def test_parameters_without_a_value_are_none(api: Api) -> None:
    listed = api.http.get(f"{BASE}/restore/list?task_id=&global_only=")

    assert listed.status_code == 200, listed.text
