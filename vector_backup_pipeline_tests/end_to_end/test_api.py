"""The REST API with a real PostgreSQL, Dagster webserver and daemon."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families as metric_families

from vector_backup_pipeline_tests.end_to_end.callers import (
    PASSWORD,
    TASK,
    WRONG_PASSWORD,
    Called,
    Stage,
)
from vector_backup_pipeline_tests.faults.watching import wait_for_a_waiting_lock
from vector_backup_pipeline_tests.fix_api import BASE
from vector_backup_pipeline_tests.fix_dagster import RESULT_KEYS, DagsterDev, eventually

_SUCCESS_KEYS = {"code", "success", "message", "data"}


def _refused(called: Called, code: int, message: str, error_type: str) -> dict[str, Any]:
    """The data of an error with the documented envelope."""
    assert called.answer.status_code == code, called.body
    assert called.body.keys() == _SUCCESS_KEYS
    assert (called.body["code"], called.body["success"]) == (code, False)
    assert called.body["message"] == message
    assert called.data["error_type"] == error_type
    assert datetime.fromisoformat(called.data["timestamp"]).tzinfo is not None
    return called.data


def test_an_empty_object_is_backed_up_and_answered_key_by_key(
    answers: Mapping[str, Called], stage: Stage
) -> None:
    called = answers["empty"]

    assert called.answer.status_code == 200, called.body
    assert {key: called.body[key] for key in ("code", "success", "message")} == {
        "code": 200,
        "success": True,
        "message": "操作成功",
    }
    assert list(called.data) == ["response", *RESULT_KEYS, "run_id"]
    assert called.data["response"] == "Vector表备份完成"
    assert called.data["backup_performed"] is True
    assert called.data["truncate_performed"] is False
    assert called.data["backup_directory"] == str(stage.dev.root / "vector_bak")
    table = called.data["tables_backed_up"]["langchain_pg_collection"]
    assert list(table) == ["success", "row_count", "file_size", "backup_file", "duration"]
    assert (table["success"], table["row_count"]) == (True, 4)
    assert (stage.dev.root / "vector_bak" / table["backup_file"]).stat().st_size > 0
    assert (called.data["truncate_results"], called.data["errors"]) == ({}, [])
    assert datetime.fromisoformat(called.data["timestamp"]).tzinfo is not None
    assert called.answer.headers["content-type"] == "application/json"
    of_task = answers["task"].data
    assert of_task["backup_directory"] == str(stage.dev.root / TASK / "vector_bak")
    table = of_task["tables_backed_up"]["langchain_pg_embedding"]
    assert table["backup_file"].endswith(".pgcopy.zst")


def test_a_callers_own_database_is_backed_up_and_its_table_emptied(
    answers: Mapping[str, Called], stage: Stage
) -> None:
    data = answers["truncate"].data

    assert data["truncate_performed"] is True, data
    emptied = data["truncate_results"]["langchain_pg_embedding"]
    assert list(emptied) == ["success", "rows_before", "rows_after", "duration"]
    assert (emptied["rows_before"], emptied["rows_after"]) == (58, 0)
    assert stage.callers.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 0
    assert stage.dev.database.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58


def test_a_missing_table_is_404_and_the_other_one_is_backed_up(
    answers: Mapping[str, Called],
) -> None:
    data = _refused(answers["no table"], 404, "资源未找到", "TABLE_NOT_FOUND")

    assert data["response"] == "Vector表备份失败，请稍后重试"
    assert "no\u0001where" in data["detail"]
    assert data["result"]["tables_backed_up"]["langchain_pg_collection"]["success"] is True
    assert "can_retry" not in data


@pytest.mark.parametrize(
    ("name", "code", "error_type", "response", "detail"),
    [
        ("no server", 503, "SERVICE_UNAVAILABLE", "数据库连接失败，请检查连接配置", "refused"),
        ("wrong password", 500, "DATABASE_ERROR", "数据库连接失败，请检查连接配置", "password"),
        (
            "not allowed",
            500,
            "PERMISSION_DENIED",
            "Vector表备份失败，请稍后重试",
            "langchain_pg_collection",
        ),
        ("no storage", 500, "STORAGE_ERROR", "Vector表备份失败，请稍后重试", "broken/vector_bak"),
    ],
)
def test_a_failed_run_is_answered_with_its_kind_and_reason(
    answers: Mapping[str, Called], name: str, code: int, error_type: str, response: str, detail: str
) -> None:
    message = {500: "系统内部错误", 503: "服务暂时不可用"}[code]
    data = _refused(answers[name], code, message, error_type)

    assert data["response"] == response
    assert detail in data["detail"]
    assert data.get("can_retry", False) is True or name != "no server"
    assert "Traceback" not in answers[name].answer.text


def test_the_metrics_have_the_runs_and_their_errors(
    answers: Mapping[str, Called], stage: Stage
) -> None:
    text = stage.api.http.get("/metrics").text

    samples = [sample for family in metric_families(text) for sample in family.samples]
    runs = [s.labels for s in samples if s.name == "vector_backup_recent_runs"]
    failures = {run["error_type"] for run in runs if run["status"] == "FAILURE"}
    assert {"TABLE_NOT_FOUND", "SERVICE_UNAVAILABLE", "PERMISSION_DENIED"} <= failures
    of_task = [s for s in samples if s.labels.get("location") == TASK]
    assert [s.value for s in of_task if s.name == "vector_backup_table_rows"] == [4, 58]
    assert "SUCCESS" in {sample.labels.get("status") for sample in of_task}


def test_a_run_whose_caller_does_not_wait_is_followed_to_its_end(stage: Stage) -> None:
    started = stage.api.back_up({}, wait="false")
    assert (started.status_code, started.json()["code"]) == (202, 202)
    started_run = started.json()["data"]
    assert list(started_run) == ["response", "run_id", "timestamp"]
    assert started_run["response"] == "Vector表备份已启动"

    ended = stage.api.ended(started_run["run_id"])

    assert (ended["status"], ended["response"]) == ("SUCCESS", "Vector表备份完成")
    assert ended["progress"]["langchain_pg_embedding"]["state"] == "done"
    assert ended["progress"]["langchain_pg_embedding"]["rows"] == 58
    assert list(ended["result"]) == RESULT_KEYS
    assert ended["error"] is None


def test_a_canceled_run_answers_its_caller_and_cannot_be_canceled_again(
    stage: Stage,
) -> None:
    with ThreadPoolExecutor(1) as caller, stage.callers.session() as holder:
        # The run waits for this lock, so it is there to be cancelled.
        holder.cursor().execute("LOCK TABLE langchain_pg_collection IN ACCESS EXCLUSIVE MODE")
        launches = len(stage.proxy.times("Launch"))
        owner = stage.callers.url_as("api_owner", PASSWORD)
        body = {"db_connection": owner, "task_id": "canceled", "truncate_vector_tables": True}
        waiting = caller.submit(stage.back_up, body)
        run_id = _newest_run(stage, launches)
        eventually(lambda: stage.api.status(run_id)["status"] == "STARTED", "its start")
        wait_for_a_waiting_lock(stage.callers)

        cancelled = stage.api.http.delete(f"{BASE}/backup/{run_id}")
        assert cancelled.status_code == 202, cancelled.text
        assert cancelled.json()["data"]["response"] == "Vector表备份取消请求已提交"
        called = waiting.result()

    data = _refused(called, 409, "状态冲突", "RUN_CANCELED")
    assert data["response"] == "Vector表备份已取消"
    assert data["can_retry"] is True
    assert data["result"]["truncate_performed"] is False
    (log,) = (stage.dev.root / "canceled" / "vector_bak").iterdir()
    assert ": CANCELED by a request to Dagster" in log.read_text()
    again = stage.api.http.delete(f"{BASE}/backup/{run_id}")
    assert again.status_code == 409
    assert again.json()["message"] == "状态冲突"
    assert stage.api.status(run_id)["status"] == "CANCELED"


def test_what_was_backed_up_is_listed_downloaded_and_restored(
    answers: Mapping[str, Called], stage: Stage
) -> None:
    name = answers["truncate"].data["tables_backed_up"]["langchain_pg_embedding"]["backup_file"]
    listed = stage.api.http.get(f"{BASE}/restore/list", params={"task_id": "callers_own"})
    (location,) = listed.json()["data"]["backup_locations"]
    stamp = next(b["timestamp"] for b in location["backups"] if name in b["files"])
    assert location["relative_path"] == "root/callers_own/vector_bak"

    address = f"{BASE}/backup/files/{stamp}/{name}"
    whole = stage.api.http.get(address, params={"task_id": "callers_own"})
    part = stage.api.http.get(
        address,
        params={"task_id": "callers_own"},
        headers={"Range": "bytes=10-", "If-Range": whole.headers["ETag"]},
    )
    assert whole.content == (stage.dev.root / "callers_own" / "vector_bak" / name).read_bytes()
    assert (part.status_code, part.content) == (206, whole.content[10:])
    elsewhere = stage.api.http.get(address)
    assert elsewhere.status_code == 404

    restored = stage.api.restore(
        {
            "timestamp": stamp,
            "backup_path": location["relative_path"],
            "db_connection": stage.callers.url_as("api_owner", PASSWORD),
            "tables": ["langchain_pg_embedding"],
        }
    )
    assert restored.status_code == 200, restored.text
    data = restored.json()["data"]
    assert data["response"] == "Vector表恢复完成"
    assert data["restore_results"]["langchain_pg_embedding"]["rows_restored"] == 58
    assert data["restore_results"]["langchain_pg_embedding"]["digest_matches"] is True
    assert data["backup_info"]["backup_path"] == "root/callers_own/vector_bak"
    assert stage.callers.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58


_BAD_TASK = "无效的task_id格式，只能包含字母、数字和下划线"


@pytest.mark.parametrize(
    ("body", "response"),
    [
        ({"task_id": "a-b"}, _BAD_TASK),
        ({"task_id": "nobody"}, "指定的任务目录不存在: nobody"),
        ({"bogus": 1}, None),
        ({"db_connection": "dbname=x"}, None),
    ],
)
def test_a_mistake_is_refused_before_a_run_is_launched(
    stage: Stage, body: Any, response: str | None
) -> None:
    launches = len(stage.proxy.times("Launch"))

    called = stage.back_up(body)

    is_missing = response is not None and "nobody" in response
    expected = (404, "资源未找到", "RESOURCE_NOT_FOUND")
    data = _refused(called, *(expected if is_missing else (400, "请求参数错误", "INVALID_PARAMS")))
    assert data["response"] == (response or "Vector表备份失败，请检查请求参数")
    assert len(stage.proxy.times("Launch")) == launches


def test_no_password_is_anywhere(
    answers: Mapping[str, Called], stage: Stage, dagster_dev: DagsterDev
) -> None:
    """Checked after success and each kind of failure, in everything that was written."""
    text = "".join(called.answer.text for called in answers.values())
    text += "".join(request.body for request in stage.proxy.requests)
    written = [
        path.read_bytes()
        for location in (dagster_dev.home, dagster_dev.root, stage.api.log.parent, dagster_dev.log)
        for path in ([location] if location.is_file() else location.rglob("*"))
        if path.is_file()
    ]
    assert sum(map(len, written)) > 100_000
    for secret in (PASSWORD, WRONG_PASSWORD):
        for form in {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}:
            assert form not in text
            assert not [content for content in written if form.encode() in content]
    # The connection string did reach Dagster.
    assert "sealed:gAAAA" in text


def _newest_run(stage: Stage, launches: int) -> str:
    eventually(lambda: len(stage.proxy.times("Launch")) > launches, "the launch")

    def watched_run() -> str | None:
        request = stage.proxy.requests[-1]
        runs: list[str] = json.loads(request.body)["variables"].get("filter", {}).get("runIds") or [
            ""
        ]
        return runs[0]

    run_id: str = eventually(watched_run, "the run that somebody waits for")
    return run_id
