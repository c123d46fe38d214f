"""Several databases: the file of targets, and the settings of each."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.requests import parse_request
from vector_backup_pipeline.schedules import schedules_of
from vector_backup_pipeline.settings import Settings, SettingsError, load_settings
from vector_backup_pipeline_tests.fix_sets import SetWriter


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with the file of targets of the documentation's form."""
    file = tmp_path / "fleet.yaml"
    file.write_text(
        """
        rag_1: &usual
          connection: RAG_1_URL
          tables: [docs, app.images]
          mode: auto
          full_every: 14d
          compression: zstd
          schedule: "0 1 * * *"
          retention: {keep_last: 7, keep_within: 14d}
        rag-2:
          <<: *usual
          connection: RAG_2_URL
          root: s3://bucket/rag
          timezone: Asia/Shanghai
        plain: {connection: rag_3_url}
        """
    )
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("RAG_1_URL=postgresql://of-the-file/rag\n")
    monkeypatch.setenv("RAG_2_URL", "postgresql://of-the-environment/rag")
    return load_settings(targets=str(file), root="/backups", keep_daily=3, mode="incremental")


def test_a_target_has_the_settings_of_the_installation_with_its_own(installation: Settings) -> None:
    _, first, second, plain = installation.with_targets()

    assert [s.target for s in (first, second, plain)] == ["rag_1", "rag-2", "plain"]
    assert [s.root for s in (first, second, plain)] == [
        "/backups/rag_1",
        "s3://bucket/rag",
        "/backups/plain",
    ]
    assert first.backup_defaults == {
        "tables": ("docs", "app.images"),
        "truncate_tables": ("langchain_pg_embedding",),
        "format": "csv",
        "compression": "zstd",
        "mode": "auto",
        "full_every": "14d",
    }
    assert (
        str(first.keep_rules)
        == str(second.keep_rules)
        == "keep_last 7, keep_daily 3, keep_within 14d"
    )
    assert (second.timezone, second.cron, second.schedule_enabled) == (
        "Asia/Shanghai",
        "0 1 * * *",
        True,
    )
    assert first.db_url and first.db_url.reveal() == "postgresql://of-the-file/rag"
    assert second.db_url and second.db_url.reveal() == "postgresql://of-the-environment/rag"
    assert (plain.db_url, plain.mode, plain.schedule_enabled) == (None, "incremental", False)
    assert installation.for_target("rag-2").root == second.root


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a:\n  connection: A\n  tabels: [x]", "line 3: target a: Unknown: 'tabels'. Known: conn"),
        ("a:\n  connection: A\n  mode: fast", "line 3: target a: mode must be 'full', 'incre"),
        ("a:\n  connection: A\n  tables: [b, '']", "line 3: target a: tables.1 is malformed"),
        ("a:\n  connection: A\n  timezone: Mars", "line 3: target a: timezone 'Mars' is not"),
        (
            "a:\n  connection: A\n  retention:\n    keep_last: x",
            "line 4: target a: retention.keep_last must be a valid integer",
        ),
        (
            "a: &a {connection: A, root: x}\nb: {<<: *a}",
            "line 1: target b: root is the root of target a",
        ),
        (
            "b: {connection: B, root: x/../y/b}\na: {connection: A, root: y}",
            "line 1: target b: root",
        ),
        ("a: {connection: A, root: ''}", "line 1: target a: root is malformed"),
        ("b: {connection: B}\na:", "line 2: target a: write a name of at most"),
        ("a: {root: b}", "line 1: target a: connection is missing. Give the name of the env"),
        ("a: {connection: A}\na: {connection: B}", "line 2: target a: the name is taken"),
        ("a-b: {connection: A}\na_b: {connection: A}", "line 2: target a_b: the name is taken"),
        ("daily: {connection: A}", "line 1: target daily: the name is taken"),
        ("a b: {connection: A}", "line 1: target a b: write a name of at most 100"),
        ("a: {connection: A, ? [x] : 7}", "line 1: this is not YAML"),
        ("a: {connection: A\nb: hunter2 'x", "line 2: this is not YAML"),
        ("a: {connection: 'postgresql://u:hunter2@h/d'}", "target a: connection is malformed"),
        ("[a]", "write a name of at most 100"),
    ],
)
def test_a_malformed_file_is_refused_with_line_and_target(
    tmp_path: Path, text: str, error: str
) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text)

    with pytest.raises(SettingsError) as refusal:
        load_settings(targets=str(file)).with_targets()

    assert str(refusal.value).startswith("VECTOR_BACKUP_TARGETS: ")
    assert error in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_an_unknown_target_is_refused_with_those_that_exist(installation: Settings) -> None:
    with pytest.raises(InvalidParams, match=r"^target is 'x'\. Known .*: rag_1, rag-2, plain\.$"):
        installation.for_target("x")
    with pytest.raises(InvalidParams, match=r"^target .* VECTOR_BACKUP_TARGETS: none; set it to"):
        load_settings(target="x")
    with pytest.raises(InvalidParams, match=r"^target is ''"):
        installation.for_target(parse_request(b"{}", BackupParameters, "").target)


def test_each_target_has_a_schedule_and_the_other_schedules_cover_all(
    installation: Settings, tmp_path: Path
) -> None:
    installation = installation.model_copy(update={"root": str(tmp_path)})
    defined = {s.name: s for s in (each.define(own) for each, own in schedules_of(installation))}

    def requested(schedule: str) -> list[tuple[dict[str, Any], dict[str, str]]]:
        with dg.build_schedule_context() as context:
            requests = defined[schedule].evaluate_tick(context).run_requests or []
        return [(dict(request.run_config), dict(request.tags)) for request in requests]

    tags = {"vector_backup/target": "rag-2", "vector_backup/database": "RAG_2_URL"}
    ((run_config, tagged),) = requested("rag_2_backup_schedule")
    assert run_config == {"target": "rag-2"} and tags.items() <= tagged.items()
    assert defined["rag_2_backup_schedule"].execution_timezone == "Asia/Shanghai"
    assert defined["rag_2_backup_schedule"].default_status is dg.DefaultScheduleStatus.RUNNING
    assert "plain_backup_schedule" not in defined
    assert [config for config, _ in requested("daily_backup_schedule")] == [{}]
    every = [{"target": name} for name in ("rag_1", "rag-2", "plain")]
    assert [config for config, _ in requested("weekly_verify_schedule")] == every
    SetWriter(tmp_path / "vector_bak").write("20250721_234914")
    assert [config for config, _ in requested("weekly_verify_schedule")] == [{}, *every]
    assert [config for config, _ in requested("daily_prune_schedule")] == [{}, *every]


def test_a_malformed_cron_expression_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("a:\n  connection: A\n  schedule: daily")

    with pytest.raises(SettingsError, match="line 3: target a: schedule: 'daily' is not a cron"):
        for schedule, owner in schedules_of(load_settings(targets=str(file))):
            schedule.define(owner)


def test_the_folder_of_a_target_is_no_task(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(f"a: {{connection: A}}\nb: {{connection: B, root: {tmp_path}/by_hand/b}}")
    settings = load_settings(targets=str(file), root=f"{tmp_path}/.//")
    for name in ("a", "by_hand", "task_1"):
        (tmp_path / name).mkdir()

    assert settings.open_root().task_ids() == ["task_1"]
    with pytest.raises(InvalidParams, match="'a' is the name of the directory"):
        settings.open_root().open("a")
