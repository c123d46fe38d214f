"""What the parameters' models accept and refuse."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from vector_backup_pipeline.engine.errors import InvalidParams, MissingRequiredParams
from vector_backup_pipeline.parameters.backup import BackupParameters, BackupRequest
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name, split_tables
from vector_backup_pipeline.parameters.types import check_task_id, is_task_id
from vector_backup_pipeline.parameters.verify import VerifyParameters

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def backup(**values: Any) -> BackupParameters:
    return BackupParameters(**values)


def restore(**values: Any) -> RestoreParameters:
    return RestoreParameters(**{"timestamp": "latest", **values})


def request(**values: Any) -> BackupRequest:
    defaults = {"tables": ("docs", "app.docs"), "truncate_tables": ("app.docs",)}
    return BackupRequest(**{**defaults, **values})


@given(st.text())
def test_a_task_id_never_leaves_its_directory(text: str) -> None:
    allowed = set(string.ascii_letters + string.digits + "_")

    assert is_task_id(text) == (0 < len(text) <= 200 and set(text) <= allowed)


@pytest.mark.parametrize("task_id", ["a" * 201, "../x", "task\n", "a/b", ".", "ä", "١", "a\0"])
def test_an_invalid_task_id_is_refused_everywhere(task_id: str) -> None:
    for call in (lambda: check_task_id(task_id), lambda: backup(task_id=task_id)):
        with pytest.raises(InvalidParams, match=r"^task_id is ") as refusal:
            call()
        assert [problem.keys for problem in refusal.value.problems] == [("task_id",)]


@pytest.mark.parametrize("model", [BackupParameters, RestoreParameters, VerifyParameters])
def test_an_empty_text_counts_as_absent(model: type[Parameters]) -> None:
    required: dict[str, Any] = {"timestamp": "latest"} if model is RestoreParameters else {}

    parameters = model(**{**required, "task_id": ""})

    assert parameters == model(**required)
    assert parameters.as_run_config(SecretStr.get_secret_value) == required


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("Docs", None, "Docs"),
        ("app.docs", "app", "docs"),
        ("a.b.c", "a", "b.c"),
        ('"a.b"', None, "a.b"),
        ('"a.b".c', "a.b", "c"),
        ('"a.b"."c.d"', "a.b", "c.d"),
        ('"a""b"', None, 'a"b'),
        ('a"b', None, 'a"b'),
        ('a.b"c', "a", 'b"c'),
        (" docs ", None, " docs "),
        ("größe.表", "größe", "表"),
    ],
)
def test_the_first_dot_splits_and_quotes_protect_dots(
    text: str, schema: str | None, name: str
) -> None:
    assert parse_table_name(text) == TableName(schema, name)


@given(NAMES, NAMES)
def test_any_name_can_be_written_in_quotes(schema: str, name: str) -> None:
    def quoted(part: str) -> str:
        return '"' + part.replace('"', '""') + '"'

    assert parse_table_name(quoted(name)) == TableName(None, name)
    assert parse_table_name(f"{quoted(schema)}.{quoted(name)}") == TableName(schema, name)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", '"', '""', '"a', '"a"b', '"a".', '"a"."b"c', 'a."', 'a.""', "a\0b"],
)
def test_a_malformed_table_name_is_refused_everywhere(text: str) -> None:
    with pytest.raises(InvalidParams, match="is malformed"):
        parse_table_name(text)
    with pytest.raises(InvalidParams, match=r"^tables is malformed\. Tables to back up: name or"):
        backup(tables=["docs", text])
    with pytest.raises(InvalidParams, match=r"^rename is malformed\."):
        restore(rename={text: "a"})


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("a, b ,", ("a", "b")),
        ('"x,y",app."p.q"', ('"x,y"', 'app."p.q"')),
        ('"say ""a,b""",c', ('"say ""a,b"""', "c")),
        ('q"uote,b', ('q"uote', "b")),
        ("", ()),
    ],
)
def test_a_list_of_tables_is_split_at_commas_outside_of_quotes(
    text: str, tables: tuple[str, ...]
) -> None:
    assert split_tables(text) == tables


@pytest.mark.parametrize(
    "values",
    [
        {"timestamp": "20250721_234914", "tables": ("app.docs", '"a.b"')},
        {"collections": ("a", "")},
        {"collections": ("a",), "on_conflict": "replace"},
        {"rename": {"docs": "other.docs", "app.docs": "docs"}},
        {"probes": 0, "max_parallel_maintenance_workers": 0},
        {"maintenance_work_mem": "512MB"},
        {"maintenance_work_mem": "1TB"},
    ],
)
def test_valid_parameters_are_accepted(values: dict[str, Any]) -> None:
    assert restore(**values)


@pytest.mark.parametrize(
    ("call", "values", "message"),
    [
        (backup, {"export_method": "COPY"}, "export_method must be 'copy' or 'cursor'."),
        (backup, {"compression": "gz"}, "compression must be 'none', 'gzip' or 'zstd'."),
        (backup, {"batch_size": 10**300}, "batch_size must be less than or equal to 1000000."),
        (backup, {"workers": 65}, "workers must be less than or equal to 64."),
        (backup, {"tables": ()}, "tables must have at least 1 item"),
        (backup, {"tables": ("a.b", '"a"."b"')}, 'tables names the table \'"a"."b"\' twice'),
        (
            backup,
            {"workers": 0, "batch_size": 0},
            "workers must be greater than or equal to 1. batch_size must be greater",
        ),
        (backup, {"wokers": 1, "tabels": []}, "Unknown: 'wokers', 'tabels'. Known: target, "),
        (request, {"compression_level": 3}, "compression_level and compression exclude each other"),
        (
            backup,
            {"compression": "gzip", "compression_level": 10},
            "compression_level and compression exclude each other: gzip has levels 1 to 9.",
        ),
        (
            backup,
            {"export_method": "cursor", "format": "binary"},
            "export_method and format exclude each other: cursor returns values as text",
        ),
        (restore, {"backup_path": "a/" + "b" * 256}, "backup_path is malformed."),
        (restore, {"task_id": "t", "backup_path": "p"}, "task_id and backup_path exclude"),
        (
            restore,
            {"on_conflict": "skip", "truncate_before_restore": True},
            "on_conflict and truncate_before_restore exclude each other",
        ),
        (
            restore,
            {"fire_triggers": True, "disable_triggers": True},
            "fire_triggers and disable_triggers exclude each other",
        ),
        (
            restore,
            {"collections": ("a",), "truncate_before_restore": True},
            "collections and truncate_before_restore exclude each other: truncating would remove",
        ),
        (restore, {"rename": {"a": '"x"', "b": "x"}}, "rename names the table 'x' twice"),
        (restore, {"rename": {"a": "s." + "ä" * 32}}, "rename has 'ää"),
        (restore, {"maintenance_work_mem": "2 GB"}, "maintenance_work_mem is malformed."),
        (restore, {"maintenance_work_mem": "2TB"}, "maintenance_work_mem is malformed."),
        (restore, {"maintenance_work_mem": "1GB; DROP"}, "maintenance_work_mem is malformed."),
        (PruneParameters, {"keep_within": "two weeks"}, "keep_within is malformed. Keep all sets"),
        (PruneParameters, {"task_id": "t", "global_only": True}, "task_id and global_only exclude"),
    ],
)
def test_invalid_parameters_are_refused_by_name(
    call: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParams) as refusal:
        call(**values)

    assert refusal.value.message.startswith(message)


@pytest.mark.parametrize("values", [{}, {"timestamp": ""}, {"timestamp": None}])
def test_a_missing_parameter_is_explained(values: dict[str, Any]) -> None:
    with pytest.raises(MissingRequiredParams, match=r"^timestamp is missing\. Backup set to"):
        RestoreParameters(**values)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, None),
        ({"truncate_vector_tables": False, "truncate_tables": ("other",)}, None),
        ({"truncate_tables": ('"app"."docs"',)}, None),
        ({"truncate_tables": ("other",)}, "would empty the table 'other'"),
    ],
)
def test_only_tables_of_the_same_run_are_truncated(
    values: dict[str, Any], problem: str | None
) -> None:
    values = {"truncate_vector_tables": True, **values}
    if problem is not None:
        with pytest.raises(InvalidParams, match=f"^truncate_vector_tables {problem}"):
            request(**values)
        return
    expected = ("app.docs",) if values["truncate_vector_tables"] else ()
    assert request(**values).tables_to_truncate == expected


@pytest.mark.parametrize(
    ("backup", "truncate", "nothing"),
    [(True, False, False), (False, False, True), (False, True, False), (True, True, False)],
)
def test_truncating_switches_the_backup_on(backup: bool, truncate: bool, nothing: bool) -> None:
    requested = request(backup_vector_tables=backup, truncate_vector_tables=truncate)

    assert requested.does_nothing is nothing


@pytest.mark.parametrize(
    ("values", "are_compared"),
    [
        ({}, True),
        ({"truncate_before_restore": True}, True),
        ({"on_conflict": "skip"}, False),
        ({"on_conflict": "replace"}, False),
        ({"collections": ("a",)}, False),
    ],
)
def test_digests_are_compared_where_every_row_is_loaded_as_it_is(
    values: dict[str, Any], are_compared: bool
) -> None:
    assert restore(**values).loads_every_row_as_it_is is are_compared
