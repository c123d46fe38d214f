"""What a caller may ask of a restore."""

from __future__ import annotations

from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import BackupError, MissingRequiredParams
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline_tests.fix_restore import DEFAULTS


def _request(**parameters: Any) -> RestoreParameters:
    return RestoreParameters(**{**DEFAULTS, **parameters})


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"timestamp": "20250721_234914", "tables": ("app.docs", '"a.b"')},
        {"task_id": "task_1"},
        {"backup_path": "data_pipeline/training_data/vector_bak"},
        {"collections": ("a", "")},
        {"collections": ("a",), "on_conflict": "replace"},
        {"rename": {"docs": "other.docs", "app.docs": "docs"}},
        {"probes": 0},
        {"probes": 1000},
        {"maintenance_work_mem": "512MB"},
        {"maintenance_work_mem": "1TB"},
        {"max_parallel_maintenance_workers": 0},
    ],
)
def test_what_can_be_done_is_taken(parameters: dict[str, Any]) -> None:
    assert _request(**parameters)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"task_id": "../elsewhere"}, "task_id"),
        ({"task_id": "t\n"}, "task_id"),
        ({"task_id": "t", "backup_path": "p"}, "both given"),
        ({"tables": ()}, "tables"),
        ({"tables": ("docs", "docs")}, "docs"),
        ({"tables": ("",)}, "table"),
        ({"on_conflict": "ignore"}, "one of: fail, skip, replace"),
        ({"on_conflict": "skip", "truncate_before_restore": True}, "nothing collides"),
        ({"on_conflict": "replace", "truncate_before_restore": True}, "nothing collides"),
        ({"fire_triggers": True, "disable_triggers": True}, "exclude each other"),
        ({"collections": ()}, "collections is empty"),
        (
            {"collections": ("a",), "truncate_before_restore": True},
            "would remove all other collections. To put some collections back",
        ),
        ({"rename": {"a": "x", "b": "x"}}, "both to 'x'"),
        ({"rename": {"a": '"x"', "b": "x"}}, "both to 'x'"),
        ({"rename": {"a": ""}}, "table"),
        ({"rename": {"": "a"}}, "table"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": 100_000}, "from 1 to 64"),
        ({"progress_every": 0}, "progress_every"),
        ({"probes": -1}, "probes is -1"),
        ({"probes": 1001}, "to 1000"),
        ({"maintenance_work_mem": "2 GB"}, "such as '2GB'"),
        ({"maintenance_work_mem": "0GB"}, "such as '2GB'"),
        ({"maintenance_work_mem": "2TB"}, "at most 1TB"),
        ({"maintenance_work_mem": "1" + "0" * 17 + "kB"}, "at most 1TB"),
        ({"maintenance_work_mem": "1GB; DROP TABLE docs"}, "such as '2GB'"),
        ({"max_parallel_maintenance_workers": -1}, "from 0 to 1024"),
        ({"max_parallel_maintenance_workers": 1025}, "from 0 to 1024"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(BackupError) as raised:
        _request(**parameters)

    assert raised.value.error_type == "INVALID_PARAMS"
    assert words in str(raised.value)


def test_a_restore_needs_to_be_told_of_which_set() -> None:
    with pytest.raises(MissingRequiredParams, match="latest"):
        _request(timestamp="")


@pytest.mark.parametrize(
    ("parameters", "are_compared"),
    [
        ({}, True),
        ({"truncate_before_restore": True}, True),
        ({"on_conflict": "skip"}, False),
        ({"on_conflict": "replace"}, False),
        ({"collections": ("a",)}, False),
    ],
)
def test_digests_are_compared_where_every_row_goes_in_as_it_is(
    parameters: dict[str, Any], are_compared: bool
) -> None:
    assert _request(**parameters).loads_every_row_as_it_is is are_compared
