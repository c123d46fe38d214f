"""Request bodies: plain JSON of the jobs' own keys and types, and nothing else."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterInvalidConfigError
from fastapi import Request
from pydantic import SecretStr
from starlette.types import Message

from vector_backup_pipeline.api.bodies import MOST_BODY_BYTES, read_body
from vector_backup_pipeline.api.errors import BodyTooLarge, CallerGone
from vector_backup_pipeline.api.openapi import request_body
from vector_backup_pipeline.api.operations import (
    BACKUP,
    INVALID_TASK_ID,
    RESTORE,
    refusal_text,
)
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
)
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells

PASSWORD = "hunter2-geheim"
URL = f"postgresql://u:{PASSWORD}@h/d"
_SAMPLES: dict[type, Any] = {str: "text", int: 3, bool: True, list: ["a", "b"], dict: {"a": "b"}}
# Where not every text will do; one that excludes another is left out.
_GOOD: dict[str, Any] = {
    "timestamp": "latest",
    "format": "binary",
    "compression": "zstd",
    "export_method": "copy",
    "on_conflict": "fail",
    "db_connection": URL,
    "maintenance_work_mem": "2GB",
    "backup_path": None,
    "truncate_before_restore": False,
    "fire_triggers": False,
}
_BODIES = ((BackupParameters, BACKUP.job), (RestoreParameters, RESTORE.job))


def _read(
    *parts: bytes,
    model: type[Parameters] = BackupParameters,
    announced: str | None = None,
    breaks_off: bool = False,
) -> dict[str, Any]:
    """What would be launched for the body that came in these parts, with a Content-Length if one
    was `announced`."""
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages.append(
        {"type": "http.disconnect"} if breaks_off else {"type": "http.request", "body": b""}
    )
    arriving = iter(messages)

    async def receive() -> Message:
        return next(arriving)

    headers = [] if announced is None else [(b"content-length", announced.encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
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


def _schema(model: type[Parameters]) -> dict[str, Any]:
    content = request_body(model)["requestBody"]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema


def _needed(model: type[Parameters]) -> dict[str, Any]:
    return {"timestamp": "latest"} if model is RestoreParameters else {}


def _kind(model: type[Parameters], key: str) -> tuple[type, bool]:
    """The type of a key's values, and whether they may be null."""
    schema = _schema(model)["properties"][key]
    kinds = {each["type"] for each in schema.get("anyOf", [schema])}
    (name,) = kinds - {"null"}
    names = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    return names[name], "null" in kinds


_KEYS = [
    pytest.param(model, key, id=f"{model.__name__}.{key}")
    for model, _ in _BODIES
    for key in model.model_fields
]


@pytest.mark.parametrize("body", [b"", b"  \r\n\t", b"{}", b" {} "])
def test_an_empty_body_takes_every_default(body: bytes) -> None:
    assert _read(body) == {}
    assert _read(body, announced=str(len(body))) == {}


def test_only_the_keys_that_were_given_are_handed_on() -> None:
    body = {"workers": 2, "tables": ["docs"], "task_id": None, "compression_level": None}
    assert _read(json.dumps(body).encode()) == body


def test_an_empty_task_is_none() -> None:
    assert _read(b'{"task_id": ""}') == {}


@pytest.mark.parametrize("body", [b"", b'{"timestamp": ""}', b'{"timestamp": null}'])
def test_what_must_be_given_is_missing(body: bytes) -> None:
    message = _refused(body, RestoreParameters, MissingRequiredParams)
    assert message.startswith("timestamp is missing")


def test_a_body_may_come_in_pieces_that_cut_characters() -> None:
    pieces = [bytes([each]) for each in '{"tables": ["表"]}'.encode()]
    assert _read(*pieces) == {"tables": ["表"]}


def test_of_a_key_that_is_given_twice_the_last_counts_as_everywhere() -> None:
    assert _read(b'{"workers": 2, "workers": 3}') == {"workers": 3}
    assert "workers" in _refused(b'{"workers": 2, "workers": "3"}')


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b'[{"workers": 2}]', b'"workers"', b"2", b"true", b"[" * 500 + b"]" * 500],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    assert "no JSON object" in _refused(body)


@pytest.mark.parametrize(
    "body",
    [
        b"workers=2",
        b"{'workers': 2}",
        b'{"workers": 2,}',
        b'{"workers": 2} x',
        b'{"workers": NaN}',
        b'{"workers": Infinity}',
        b'{"workers": -Infinity}',
        b'\xef\xbb\xbf{"workers": 2}',
        '{"workers": 2}'.encode("utf-16"),
        b'{"tables": ["\xff"]}',
        b'{"tables": ["\xed\xa0\x80"]}',
        rb'{"tables": ["\ud800"]}',
        rb'{"\ud800": 1}',
        rb'{"tables": ["a\u0000b"]}',
        rb'{"\u0000": 1}',
        rb'{"rename": {"a": "\u0000"}}',
        b'{"tables": ["a\0b"]}',
        b"\0",
        b"[" * 60_000,
        b"[" * 30_000 + b"]" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"workers": ' + b"1" * 5000 + b"}",
    ],
    ids=range(22),
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert "not JSON in UTF-8" in _refused(body)


def test_a_body_without_its_password_is_not_told_with_it() -> None:
    _refused(f'{{"db_connection": "{URL}"'.encode())
    _refused(f'["{URL}"]'.encode())


@pytest.mark.parametrize("announced", [str(MOST_BODY_BYTES + 1), "9" * 19])
def test_a_body_that_is_announced_as_too_large_is_not_read(announced: str) -> None:
    with pytest.raises(BodyTooLarge):
        _read(announced=announced, breaks_off=True)


@pytest.mark.parametrize("announced", [None, "10", "x"])
def test_a_body_that_grows_too_large_is_not_read_to_its_end(announced: str | None) -> None:
    with pytest.raises(BodyTooLarge, match=f"more than {MOST_BODY_BYTES} bytes"):
        # Reading on would find nobody there.
        _read(*[b" " * 4096] * 17, announced=announced, breaks_off=True)


def test_a_body_of_just_the_allowed_size_is_read() -> None:
    whole = b'{"workers": 2' + b" " * (MOST_BODY_BYTES - 14) + b"}"
    assert _read(whole, announced=str(len(whole))) == {"workers": 2}


def test_who_goes_while_sending_is_not_answered() -> None:
    with pytest.raises(CallerGone):
        _read(b'{"workers"', breaks_off=True)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 900 + b",".join([b'""'] * 20_000) + b"]" * 900,
        b'{"tables": [' + b",".join([b"1"] * 32_000) + b"]}",
        b"{" + b",".join(b'"%d":1' % each for each in range(6_000)) + b"}",
    ],
    ids=["deep", "wrong", "unknown"],
)
def test_the_largest_bodies_are_refused_quickly_and_briefly(body: bytes) -> None:
    assert len(body) <= MOST_BODY_BYTES
    began = time.process_time()
    assert len(_refused(body)) < 1000
    # Nobody else is answered meanwhile.
    assert time.process_time() - began < 1


def test_unknown_keys_are_named_in_short_with_those_there_are() -> None:
    body = json.dumps({"workers": 2, "x" * 500: 1, "backup_tables": 1, "o'k": 1}).encode()
    message = _refused(body)

    assert f"'{'x' * 80}', 'backup_tables', \"o'k\"" in message
    assert "x" * 81 not in message
    assert "batch_size" in message


@pytest.mark.parametrize(("model", "key"), _KEYS)
def test_every_key_takes_its_own_type_alone(model: type[Parameters], key: str) -> None:
    kind, is_nullable = _kind(model, key)
    needed = _needed(model)
    good = _GOOD.get(key, _SAMPLES[kind])
    more = {"compression": "gzip"} if key == "compression_level" else {}

    given = needed | more | {key: good}
    assert _read(json.dumps(given).encode(), model=model) == given
    wrong: list[Any] = [sample for each, sample in _SAMPLES.items() if each is not kind]
    wrong += [1.5, "3", "true", 0, -1.5, [1], [None], {"env": "HOME"}, {"a": 1}]
    for value in wrong:
        if type(value) is not kind or value in ([1], [None], {"a": 1}):
            told = _refused(json.dumps(needed | {key: value}).encode(), model)
            assert told.startswith(f"{key} ")
    overflow = json.dumps(needed | {key: "?"}).replace('"?"', "1e999")
    assert _refused(overflow.encode(), model).startswith(f"{key} ")
    null = json.dumps(needed | {key: None}).encode()
    if is_nullable:
        assert _read(null, model=model) == needed | {key: None}
    else:
        _refused(null, model, MissingRequiredParams if key == "timestamp" else InvalidParams)


@pytest.mark.parametrize("number", [b"2.0", b"2e0", b"20e-1"])
def test_a_whole_number_is_an_integer_however_it_is_written(number: bytes) -> None:
    workers = _read(b'{"workers": %s}' % number)["workers"]

    assert (workers, type(workers)) == (2, int)


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"2.5"])
def test_what_is_no_whole_number_is_no_integer(number: bytes) -> None:
    assert _refused(b'{"workers": %s}' % number).startswith("workers")


@pytest.mark.parametrize(("model", "key"), _KEYS)
@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: [env], lambda env: {"docs": env}])
def test_no_key_reads_the_workers_environment(
    model: type[Parameters], key: str, wrap: Callable[[Any], Any]
) -> None:
    value = wrap({"env": "VECTOR_BACKUP_DB_URL"})
    given = _needed(model) | {key: value}
    body = json.dumps(given).encode()
    if key == "rename" and value == {"env": "VECTOR_BACKUP_DB_URL"}:
        # A table may be called "env".
        assert _read(body, model=model) == given
    else:
        assert _refused(body, model).startswith(f"{key} ")


def test_a_table_called_env_is_renamed_and_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", PASSWORD)
    config = {"timestamp": "latest", "rename": {"env": "SECRET_OF_THE_WORKER"}}

    resolved = dg.validate_run_config(defs.resolve_job_def(RESTORE.job), config)

    assert resolved is not None
    assert PASSWORD not in json.dumps(resolved, default=str)


@pytest.mark.parametrize("value", [[URL], {"url": URL}, {"env": URL}, {URL: 1}])
@pytest.mark.parametrize("key", ["db_connection", "tables", "workers", "task_id"])
def test_no_value_is_repeated(key: str, value: Any) -> None:
    if key == "tables" and value == [URL]:
        value = [[URL]]
    _refused(_body(key, value))


@pytest.mark.parametrize("value", [7, True, ["a"], {"a": "b"}, 1.5])
def test_a_task_that_is_no_text_is_refused_as_a_task(value: Any) -> None:
    with pytest.raises(InvalidParams) as refusal:
        _read(_body("task_id", value))
    assert refusal_text(BACKUP, refusal.value, None) == INVALID_TASK_ID


@pytest.mark.parametrize("body", [{"task_id": "a" * 201}, {"task_id": "a-b", "workers": 0}])
def test_a_bad_task_is_answered_as_one(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams) as refusal:
        _read(json.dumps(body).encode())
    assert refusal_text(BACKUP, refusal.value, None) == INVALID_TASK_ID


@pytest.mark.parametrize(
    "body",
    [
        b'{"progress_every": 1e18}',
        b'{"batch_size": 1e300}',
        b'{"workers": 65}',
        b'{"compression_level": 1e18, "compression": "zstd"}',
    ],
)
def test_numbers_have_limits(body: bytes) -> None:
    assert "must be less than or equal to" in _refused(body)


@pytest.mark.parametrize(("model", "job"), _BODIES, ids=["backup", "restore"])
def test_a_body_is_in_step_with_its_jobs_config(model: type[Parameters], job: str) -> None:
    definition = defs.resolve_job_def(job)
    full = {key: _GOOD.get(key, _SAMPLES[_kind(model, key)[0]]) for key in model.model_fields}
    given = _read(json.dumps(full).encode(), model=model)

    assert given == full
    # Dagster takes the same object.
    dg.validate_run_config(definition, given)
    with pytest.raises(DagsterInvalidConfigError):
        dg.validate_run_config(definition, given | {"unknown": 1})
    for key in model.model_fields:
        if _kind(model, key)[1]:
            dg.validate_run_config(definition, given | {key: None})


@pytest.mark.parametrize("model", [model for model, _ in _BODIES], ids=["backup", "restore"])
def test_the_document_tells_of_every_key_with_its_default(model: type[Parameters]) -> None:
    schema = _schema(model)

    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == list(model.model_fields)
    for key, told in schema["properties"].items():
        assert told["description"]
        if key not in schema.get("required", ()):
            assert told["default"] == model.model_fields[key].get_default()


def _body(key: str, value: Any) -> bytes:
    return json.dumps({key: value}).encode()
