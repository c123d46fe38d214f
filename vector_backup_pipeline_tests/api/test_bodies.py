"""Request bodies: plain JSON of the parameters' own keys and types, and nothing else."""

import asyncio
import json
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterInvalidConfigError
from fastapi import Request
from pydantic import SecretStr
from starlette.requests import ClientDisconnect
from starlette.types import Message

from vector_backup_pipeline.api.bodies import read_body
from vector_backup_pipeline.api.errors import BodyTooLarge
from vector_backup_pipeline.api.operations import BACKUP, INVALID_TASK_ID, RESTORE
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.requests import MAX_REQUEST_BYTES
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells

PASSWORD = "hunter2-geheim"
URL = f"postgresql://u:{PASSWORD}@h/d"
# A value for each key; all are valid together.
_GOOD: dict[type[Parameters], dict[str, Any]] = {
    BackupParameters: {
        "target": "rag_1",
        "task_id": "corpus_7",
        "db_connection": URL,
        "tables": ["docs", "langchain_pg_embedding"],
        "workers": 3,
        "export_method": "copy",
        "truncate_vector_tables": True,
        "backup_vector_tables": True,
        "mode": "auto",
        "full_every": "14d",
        "batch_size": 3,
        "progress_every": 3,
        "format": "binary",
        "compression": "zstd",
        "compression_level": 3,
    },
    RestoreParameters: {
        "target": "rag_1",
        "timestamp": "latest",
        "source_database": "rag",
        "backup_path": None,
        "task_id": "corpus_7",
        "db_connection": URL,
        "tables": ["docs"],
        "collections": ["a"],
        "where_removed_since": None,
        "truncate_before_restore": False,
        "on_conflict": "fail",
        "rename": {"docs": "app.docs"},
        "fire_triggers": False,
        "disable_triggers": True,
        "allow_other_versions": True,
        "workers": 3,
        "progress_every": 3,
        "maintenance_work_mem": "2GB",
        "max_parallel_maintenance_workers": 3,
        "probes": 3,
    },
}
_KEYS = [
    pytest.param(model, key, id=f"{model.__name__}.{key}")
    for model, values in _GOOD.items()
    for key in values
]


def _read(
    *parts: bytes, model: type[Parameters] = BackupParameters, breaks_off: bool = False
) -> dict[str, Any]:
    """The run config for a body that arrives in these parts."""
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages.append(
        {"type": "http.disconnect"} if breaks_off else {"type": "http.request", "body": b""}
    )
    arriving = iter(messages)

    async def receive() -> Message:
        return next(arriving)

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    return asyncio.run(read_body(request, model)).as_run_config(SecretStr.get_secret_value)


def _refused(
    body: bytes,
    model: type[Parameters] = BackupParameters,
    kind: type[BackupError] = InvalidParams,
) -> str:
    with pytest.raises(kind) as refusal:
        _read(body, model=model)
    assert PASSWORD not in all_that_it_tells(refusal.value)
    return refusal.value.message


def _body(model: type[Parameters], key: str, value: Any) -> bytes:
    needed = {"timestamp": "latest"} if model is RestoreParameters else {}
    return json.dumps(needed | {key: value}).encode()


@pytest.mark.parametrize("body", [b"", b"  \r\n\t", b"{}", b" {} "])
def test_an_empty_body_means_every_default(body: bytes) -> None:
    assert _read(body) == {}
    # A body may arrive in parts that split characters.
    pieces = [bytes([number]) for number in '{"tables": ["表"]}'.encode()]
    assert _read(*pieces) == {"tables": ["表"]}


def test_only_the_keys_of_the_body_are_passed_on() -> None:
    body = {"workers": 2, "tables": ["docs"], "task_id": "", "compression_level": None}
    assert _read(json.dumps(body).encode()) == {
        "workers": 2,
        "tables": ["docs"],
        "compression_level": None,
    }


@pytest.mark.parametrize(
    "body",
    [
        *(b"null", b'[{"workers": 2}]', b'"workers"'),
        b"workers=2",
        b'{"workers": 2} x',
        b'{"workers": NaN}',
        b'\xef\xbb\xbf{"workers": 2}',
        '{"workers": 2}'.encode("utf-16"),
        b'{"tables": ["\xff"]}',
        b'{"tables": ["\xed\xa0\x80"]}',
        rb'{"tables": ["\ud800"]}',
        rb'{"tables": ["a\u0000b"]}',
        rb'{"rename": {"a": "\u0000"}}',
        b"[" * 30_000 + b"]" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"workers": ' + b"1" * 5000 + b"}",
        f'{{"db_connection": "{URL}"'.encode(),
    ],
    ids=range(17),
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert "not a JSON object in UTF-8" in _refused(body)


def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    whole = b'{"workers": 2' + b" " * (MAX_REQUEST_BYTES - 14) + b"}"
    assert _read(whole) == {"workers": 2}
    with pytest.raises(BodyTooLarge, match=f"more than {MAX_REQUEST_BYTES} bytes"):
        # The caller has disconnected.
        _read(whole, b" ", breaks_off=True)


def test_a_caller_who_disconnects_while_sending_is_not_answered() -> None:
    with pytest.raises(ClientDisconnect):
        _read(b'{"workers"', breaks_off=True)


@pytest.mark.parametrize(("model", "key"), _KEYS)
def test_every_key_takes_values_of_its_own_type_alone_and_no_environment(
    model: type[Parameters], key: str
) -> None:
    good = _GOOD[model][key]
    others = ["text", 3, True, ["a"], {"a": "b"}, 1.5, -1.5, {"env": "X"}]
    # A path is a string or null. A table may be called "env"; see the next test.
    wrong = [v for v in others if type(v) is not (str if good is None else type(good))]
    for value in [*wrong, [1], [None], {"a": 1}, [{"env": "X"}], {"docs": {"env": "X"}}]:
        assert _refused(_body(model, key, value), model).startswith(f"{key} ")
    overflow = _body(model, key, "?").replace(b'"?"', b"1e999")
    assert _refused(overflow, model).startswith(f"{key} ")


def test_a_table_called_env_is_renamed_and_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", PASSWORD)
    config = {"timestamp": "latest", "rename": {"env": "SECRET_OF_THE_WORKER"}}
    assert _read(json.dumps(config).encode(), model=RestoreParameters) == config

    resolved = dg.validate_run_config(defs.resolve_job_def(RESTORE.base.job_name), config)

    assert resolved is not None
    assert PASSWORD not in json.dumps(resolved, default=str)


@pytest.mark.parametrize("value", [[[URL]], {"url": URL}, {URL: 1}])
@pytest.mark.parametrize("key", ["db_connection", "tables", "workers", "task_id"])
def test_no_value_is_repeated(key: str, value: Any) -> None:
    _refused(_body(BackupParameters, key, value))


@pytest.mark.parametrize(
    "body",
    [*({"task_id": x} for x in (7, ["a"], 1.5, "a" * 201)), {"task_id": "a-b", "workers": 0}],
)
def test_a_bad_task_is_answered_as_one(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams) as refusal:
        _read(json.dumps(body).encode())
    assert BACKUP.refusal_text(refusal.value, None) == INVALID_TASK_ID


@pytest.mark.parametrize("model", _GOOD)
def test_a_body_is_the_run_config_of_its_job(model: type[Parameters]) -> None:
    job = (BACKUP if model is BackupParameters else RESTORE).base.job_name
    definition = defs.resolve_job_def(job)
    assert _GOOD[model].keys() == model.model_fields.keys() - set(model.LOCAL_FILES)
    config = _read(json.dumps(_GOOD[model]).encode(), model=model)

    assert config == _GOOD[model]
    dg.validate_run_config(definition, config)
    with pytest.raises(DagsterInvalidConfigError):
        dg.validate_run_config(definition, config | {"unknown": 1})


def test_a_file_on_the_machine_of_the_run_is_refused() -> None:
    with pytest.raises(InvalidParams, match="keys_from names a file on the machine of the run"):
        _read(b'{"timestamp": "latest", "keys_from": "/etc/passwd"}', model=RestoreParameters)
