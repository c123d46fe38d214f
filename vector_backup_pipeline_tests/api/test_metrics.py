"""What Prometheus reads from the API."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families as metric_families
from starlette.testclient import TestClient

from vector_backup_pipeline import metrics
from vector_backup_pipeline.api import metrics as scraping
from vector_backup_pipeline.engine.catalog.locations import find_locations
from vector_backup_pipeline.metrics import METRICS
from vector_backup_pipeline.operations import ERROR_TAG
from vector_backup_pipeline_tests.api.dagster_stand_in import JOB, StandIn
from vector_backup_pipeline_tests.fix_api import app_of
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter

MONITORING = CHECKOUT / "deploy" / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
NOW = datetime.now(timezone.utc).replace(microsecond=0)
# The accept header of Prometheus 2.42.
_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def _stamp(**age: float) -> str:
    return f"{NOW - timedelta(**age):%Y%m%d_%H%M%S}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A full set, an incremental one, an incomplete one, and those of a task, one damaged."""
    own, task = SetWriter(tmp_path / "vector_bak"), SetWriter(tmp_path / "task" / "vector_bak")
    own.write(_stamp(days=3))
    own.write(_stamp(days=2), {EMBEDDING: 60}, builds_on=_stamp(days=3))
    own.write(_stamp(days=1), failed=["docs"])
    own.verdict(_stamp(days=3), drill=False)
    task.write(_stamp(days=1), {"docs": 7}, database="other")
    task.damaged(_stamp(hours=1))
    return tmp_path


@contextmanager
def _scraper(root: Path, dagster: StandIn, **settings: str) -> Iterator[TestClient]:
    app = app_of(root, dagster_url=dagster.url, **settings)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def _scrape(client: TestClient) -> dict[str, dict[tuple[str, ...], float]]:
    """The values of each metric, by those of its labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    values: dict[str, dict[tuple[str, ...], float]] = {}
    for family in metric_families(answer.text):
        name = family.name.removeprefix("vector_backup_")
        labels, text = METRICS[name]
        assert (family.type, family.documentation) == ("gauge", text)
        values[name] = {tuple(s.labels[label] for label in labels): s.value for s in family.samples}
        assert all(sample.labels.keys() == set(labels) for sample in family.samples)
    assert values.keys() == METRICS.keys()
    return values


def test_the_state_of_every_set_is_scraped(root: Path, dagster: StandIn) -> None:
    with _scraper(root, dagster, max_age="2d") as client:
        values = _scrape(client)

    own, task = ("", "", "d"), ("", "task", "other")
    assert values["root_up"] == {("",): 1}
    assert values["max_age_seconds"] == {("", COLLECTION): 172800, ("", EMBEDDING): 172800}
    made_at: dict[tuple[str, ...], float] = {
        (*own, COLLECTION): (NOW - timedelta(days=3)).timestamp(),
        (*own, EMBEDDING): (NOW - timedelta(days=2)).timestamp(),
        (*task, "docs"): (NOW - timedelta(days=1)).timestamp(),
    }
    assert values["last_success_timestamp_seconds"] == made_at
    for key, age in values["last_success_age_seconds"].items():
        assert 0 <= time.time() - age - made_at[key] < 60
    rows = {(*own, COLLECTION): 4, (*own, EMBEDDING): 60, (*task, "docs"): 7}
    assert values["table_rows"] == rows
    file = root / "vector_bak" / f"{EMBEDDING}_{_stamp(days=2)}.csv"
    assert values["table_bytes"]["", "", "d", EMBEDDING] == file.stat().st_size
    durations = {(*own, "full"): 0.1, (*own, "incremental"): 0.1, (*task, "full"): 0.1}
    assert values["duration_seconds"] == durations
    assert {labels: n for labels, n in values["sets"].items() if n} == {
        (*own, "complete"): 2,
        (*own, "incomplete"): 1,
        (*task, "complete"): 1,
        ("", "task", "", "damaged"): 1,
    }
    verified_at = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()
    assert values["verdict_timestamp_seconds"] == {
        (*own, "verification", "passed"): verified_at,
        (*own, "drill", "failed"): verified_at,
    }


def test_runs_are_counted_by_status_and_type_of_error(root: Path, dagster: StandIn) -> None:
    dagster.runs[dagster.add("FAILURE")].tags = {ERROR_TAG: "LOCK_TIMEOUT"}
    dagster.runs[dagster.add("FAILURE")].config = {"task_id": "t", "target": "rag"}
    dagster.runs[dagster.add("SUCCESS")].ended_at = 7.5
    dagster.runs[dagster.add("STARTED", "vector_verify_job")].ended_at = None
    dagster.add("FAILURE", "another_job")
    with _scraper(root, dagster) as client:
        values = _scrape(client)

    assert values["recent_runs"] == {
        ("", "", JOB, "SUCCESS", ""): 1,
        ("", "", "vector_verify_job", "STARTED", ""): 1,
        ("", "", JOB, "FAILURE", "LOCK_TIMEOUT"): 1,
        # Its process was killed.
        ("rag", "t", JOB, "FAILURE", "INTERNAL_ERROR"): 1,
    }
    assert values["dagster_up"] == {(): 1}
    assert values["last_run_timestamp_seconds"] == {
        ("", "", JOB, "FAILURE"): 3.5,
        ("rag", "t", JOB, "FAILURE"): 3.5,
        ("", "", JOB, "SUCCESS"): 7.5,
    }


def test_without_dagster_there_are_still_the_metrics_of_sets(root: Path, dagster: StandIn) -> None:
    dagster.fail()
    with _scraper(root, dagster, max_age="0d") as client:
        values = _scrape(client)

    assert values["dagster_up"] == {(): 0}
    assert values["recent_runs"] == values["max_age_seconds"] == {}
    assert values["sets"]


def test_each_target_has_its_own_root(root: Path, dagster: StandIn, tmp_path: Path) -> None:
    SetWriter(root / "rag" / "vector_bak").write(_stamp(days=1), {"docs": 5})
    file = tmp_path / "targets.yaml"
    file.write_text("rag: {connection: A, tables: [docs]}\ngone: {connection: B}")
    with _scraper(root, dagster, targets=str(file)) as client:
        values = _scrape(client)

    assert values["root_up"] == {("",): 1, ("rag",): 1, ("gone",): 0}
    assert values["table_rows"]["rag", "", "d", "docs"] == 5
    assert ("rag", "docs") in values["max_age_seconds"]
    assert not [labels for labels in values["sets"] if labels[:2] == ("", "rag")]


def test_a_slow_root_does_not_delay_a_scrape_and_is_in_a_later_one(
    root: Path, dagster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), []

    def find_slowly(*arguments: Any) -> Any:
        begun.append(1)
        assert go_on.wait(60)
        return find_locations(*arguments)

    monkeypatch.setattr(metrics, "find_locations", find_slowly)
    monkeypatch.setattr(scraping, "_WAIT_SECONDS", 0.2)
    with _scraper(root, dagster) as client:
        started = time.monotonic()
        slow = [_scrape(client)["root_up"] for _ in range(2)]
        seconds = time.monotonic() - started
        go_on.set()
        monkeypatch.setattr(scraping, "_WAIT_SECONDS", 60)
        values = _scrape(client)

    assert slow == [{("",): 0}] * 2
    assert seconds < 5
    assert len(begun) == 1
    assert values["root_up"] == {("",): 1}
    assert values["sets"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (_ACCEPT, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/json", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=x", ""),
    ],
)
def test_prometheus_gets_the_format_that_it_asks_for(
    root: Path, dagster: StandIn, accept: str, media_type: str
) -> None:
    with _scraper(root, dagster) as client:
        answer = client.get("/metrics", headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    if "openmetrics" in media_type:
        families: Any = open_metrics.text_string_to_metric_families
        assert len(list(families(answer.text))) == len(METRICS)


def test_the_documentation_has_every_metric() -> None:
    text = (CHECKOUT / "docs" / "metrics.md").read_text("utf-8")
    table = text.partition("<!-- metrics -->\n")[2].partition("<!-- end -->")[0]
    lines = ["| Metric | Labels | Meaning |", "| --- | --- | --- |"]
    for name, (labels, meaning) in METRICS.items():
        lines.append(f"| `{name}` | {', '.join(f'`{label}`' for label in labels)} | {meaning} |")
    assert table.splitlines() == lines


def test_dashboard_and_rules_use_metrics_that_exist() -> None:
    dashboard = (MONITORING / "grafana" / "vector_backup.json").read_text("utf-8")
    used = dashboard + (PROMETHEUS / "rules.yml").read_text("utf-8")

    names = set(re.findall(r"vector_backup_(\w+)\{?", used)) - {"job", "verify_job"}
    assert names == METRICS.keys()
    panels = json.loads(dashboard)["panels"]
    sources = [source for panel in panels for source in (panel, *panel["targets"])]
    assert {source["datasource"]["uid"] for source in sources} == {"${datasource}"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_accepts_metrics_configuration_and_rules(
    root: Path, dagster: StandIn, tmp_path: Path
) -> None:
    def check(*arguments: str | Path, **more: Any) -> None:
        command = ["promtool", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, **more)
        assert done.returncode == 0, done.stdout + done.stderr

    with _scraper(root, dagster) as client:
        check("check", "metrics", input=client.get("/metrics").text)
    check("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    check("check", "rules", PROMETHEUS / "rules.yml")
    check("test", "rules", PROMETHEUS / "rules_test.yml")
