"""Alerts and the heartbeat, as their receivers get them."""

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline import alerts
from vector_backup_pipeline.assets import LOCATIONS_NAME, table_asset_key
from vector_backup_pipeline.checkup import check_alerts
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.engine.errors import MissingExtra
from vector_backup_pipeline.sensors import make_alert_sensors
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_dagster import JobRunner
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import EMBEDDING, SetWriter
from vector_backup_pipeline_tests.fix_sinks import TOKEN, Sink
from vector_backup_pipeline_tests.fix_terminal import Terminal


@dataclass
class Daemon:
    """Evaluates the sensors like Dagster's daemon, with new objects each time. Only the cursors
    survive, as in the daemon's database."""

    instance: dg.DagsterInstance
    cursors: dict[str, str | None]

    def tick(self) -> None:
        for sensor in make_alert_sensors(load_settings(targets="")):
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursors.get(sensor.name),
                sensor_name=sensor.name,
                repository_def=defs.get_repository_def(),
            )
            self.cursors[sensor.name] = sensor.evaluate_tick(context).cursor


@pytest.fixture
def daemon(instance: dg.DagsterInstance) -> Daemon:
    return Daemon(instance, {})


def days_ago(days: float) -> str:
    """The timestamp of a set of that time."""
    return f"{datetime.now(timezone.utc) - timedelta(days=days):%Y%m%d_%H%M%S}"


@pytest.fixture
def sets(root: Path) -> SetWriter:
    """The root's own sets: a fresh one of LangChain's tables."""
    sets = SetWriter(root / "vector_bak")
    sets.write(days_ago(0.5))
    return sets


def test_commands_alert_once_per_cause_and_once_when_it_is_over(
    installed: Database,
    sets: SetWriter,
    terminal: Terminal,
    sink: Sink,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(PREFIX + "UI_URL", "http://dagster.example")

    for _ in range(2):
        assert terminal("backup", "--tables", "nowhere").code == 1
    (message,) = sink.messages
    assert message["type"] == "failure"
    assert "The table nowhere" in message["message"]
    assert f"\nWhere: {sets.path.parent}\n" in message["message"]
    assert "\nRun: http://dagster.example/runs/" in message["message"]
    assert sink.titles() == ["Backup failed: TABLE_NOT_FOUND"]

    good = terminal("-v", "backup")
    assert (good.code, sink.calls) == (0, 1)
    assert sink.titles() == ["Solved: Backup failed: TABLE_NOT_FOUND"]
    sink.is_down = True
    monkeypatch.setattr(alerts, "HEARTBEAT_PAUSES", (0,))
    unheard = terminal("-q", "backup")
    assert "Could not call VECTOR_BACKUP_HEARTBEAT_URL: HTTP 503" in unheard.err
    assert TOKEN not in caplog.text + good.out + good.err + unheard.err


def test_the_daemon_alerts_once_per_cause_and_once_when_it_is_over(
    job: JobRunner,
    sets: SetWriter,
    daemon: Daemon,
    sink: Sink,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)

    def fail(retried: bool = False) -> None:
        failed = job({"tables": ["nowhere"]})
        if retried:
            daemon.instance.add_run_tags(failed.run.run_id, {"dagster/will_retry": "true"})
        daemon.tick()

    daemon.tick()
    fail(retried=True)
    assert sink.titles() == []
    fail()
    fail()
    assert sink.titles() == ["Backup failed: TABLE_NOT_FOUND"]
    job({"task_id": "nowhere"})
    daemon.tick()
    assert sink.titles() == ["Backup failed: RESOURCE_NOT_FOUND"]
    job({"backup_vector_tables": False})
    assert (sink.titles(), sink.calls) == ([], 0)
    job()
    daemon.tick()
    assert (sink.titles(), sink.calls) == (["Solved: Backup failed: TABLE_NOT_FOUND"], 1)

    monkeypatch.setattr(alerts, "HEARTBEAT_PAUSES", (0, 0))
    sink.is_down = True
    assert job().outcome.error_type is None
    fail()
    assert sink.calls == 3
    assert "Could not call VECTOR_BACKUP_HEARTBEAT_URL: HTTP 503" in caplog.text
    assert "An alert was not sent: the receiver json:// was not reached" in caplog.text
    assert TOKEN not in caplog.text


def test_a_failed_materialization_is_a_failed_backup(
    sets: SetWriter, daemon: Daemon, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "DB_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    daemon.tick()
    daemon.instance.add_dynamic_partitions(LOCATIONS_NAME, ["vector_bak"])

    defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=daemon.instance,
        partition_key="vector_bak",
        asset_selection=[table_asset_key(EMBEDDING)],
        raise_on_error=False,
    )
    daemon.tick()

    (message,) = sink.messages
    assert f"\nWhere: {sets.path.parent}\n" in message["message"]
    assert sink.titles() == ["Backup failed: SERVICE_UNAVAILABLE"]


def test_stale_and_damaged_sets_and_failed_restore_tests_are_watched(
    sets: SetWriter, daemon: Daemon, sink: Sink
) -> None:
    sets.write(old := days_ago(3), {"docs": 2})
    daemon.tick()
    assert sink.titles() == []

    sets.verdict(old, drill=False)
    (lost,) = sets.path.glob(f"{EMBEDDING}_*.csv")
    content = lost.read_bytes()
    lost.unlink()
    daemon.tick()
    (message,) = sink.messages
    assert f"Missing, or of another size: {lost.name}." in message["message"]
    assert "There is no good backup." in message["message"]
    assert sink.titles() == ["4 problems with backups"]
    daemon.tick()
    assert sink.titles() == []

    lost.write_bytes(content)
    daemon.tick()
    assert sink.titles() == ["Solved: 3 problems with backups"]
    sets.verdict(old, drill=True)
    daemon.tick()
    assert sink.titles() == [f"Solved: Not restorable: backup set {old}"]


def test_an_alert_that_reached_nobody_is_sent_later_and_only_by_one_process(
    root: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "TABLES", "docs")
    SetWriter(root / "vector_bak").write(days_ago(2), {"docs": 2})
    settings = load_settings()
    sink.is_down = True
    alerts.watch(settings)
    sink.is_down = False

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(alerts.watch, [settings] * 4))

    assert "The last good backup is older than 26h." in sink.messages[0]["message"]
    assert sink.titles() == ["Stale: backup of docs"]


def test_a_root_that_cannot_be_read_is_one_problem_and_is_not_created(
    root: Path, sets: SetWriter, daemon: Daemon, sink: Sink
) -> None:
    unmounted = root.rename(root.with_name("unmounted"))
    daemon.tick()
    daemon.tick()
    assert sink.titles() == ["Backups cannot be read"]
    assert not root.exists()
    unmounted.rename(root)
    daemon.tick()
    assert sink.titles() == ["Solved: Backups cannot be read"]


def test_a_failed_verification_is_an_alert_about_the_set(
    sets: SetWriter, terminal: Terminal, sink: Sink
) -> None:
    (file,) = sets.path.glob(f"{EMBEDDING}_*.csv")
    file.write_bytes(file.read_bytes().replace(b"text", b"TEXT"))

    assert terminal("verify").code == 1
    alerts.watch(load_settings())

    assert sink.titles() == ["3 problems with backups"]


def test_a_target_has_its_own_receiver_and_memory(
    root: Path, tmp_path: Path, daemon: Daemon, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ALERTS", os.environ[PREFIX + "ALERT_URLS"])
    monkeypatch.delenv(PREFIX + "ALERT_URLS")
    targets = tmp_path / "targets.yaml"
    targets.write_text("rag_1: {connection: RAG_1, tables: docs, alerts: RAG_ALERTS}\n")
    monkeypatch.setenv(PREFIX + "TARGETS", str(targets))
    SetWriter(root / "rag_1" / "vector_bak").write(days_ago(2), {"docs": 2})

    daemon.tick()
    daemon.tick()

    assert sink.titles() == ["Stale: backup of docs (rag_1)"]


def test_a_malformed_file_of_targets_and_a_removed_target_are_alerted(
    job: JobRunner, tmp_path: Path, daemon: Daemon, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = tmp_path / "targets.yaml"
    targets.write_text(fleet := "rag_1: {connection: RAG_1, max_age: 0d}\n")
    monkeypatch.setenv(PREFIX + "TARGETS", str(targets))
    (job.root / "rag_1").mkdir()
    daemon.tick()
    assert sink.titles() == []

    job({"target": "removed"})
    daemon.tick()
    assert "target is 'removed'." in sink.messages[0]["message"]
    assert sink.titles() == ["Backup failed: INVALID_PARAMS"]

    targets.write_text("rag_1:\n- [")
    daemon.tick()
    daemon.tick()
    assert "targets.yaml, line 3: this is not YAML" in sink.messages[0]["message"]
    assert sink.titles() == ["Backups cannot be read"]
    targets.write_text(fleet)
    daemon.tick()
    assert sink.titles() == ["Solved: Backups cannot be read"]


def test_check_sends_a_test_alert_only_if_asked(
    root: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = f"{os.environ[PREFIX + 'ALERT_URLS']}, nosuch://{TOKEN}"
    monkeypatch.setenv(PREFIX + "ALERT_URLS", urls)

    (finding,) = check_alerts(load_settings(), send=False)
    assert (finding.area, finding.status, sink.titles()) == ("alerts", "ok", [])

    findings = list(check_alerts(load_settings(), send=True))
    assert [(f.name, f.status) for f in findings] == [
        ("1. json://", "ok"),
        ("2. nosuch://", "failed"),
    ]
    assert TOKEN not in repr(findings)
    assert sink.titles() == ["Test alert"]


def test_without_apprise_the_extra_is_named(
    root: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)

    (finding,) = check_alerts(load_settings(), send=False)

    assert finding.advice == "Run: pip install 'vector-backup-pipeline[alerts]'."
    with pytest.raises(MissingExtra):
        alerts.watch(load_settings())
