"""Progress bars on a terminal, and the summaries."""

import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import dagster as dg
import pytest

from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.operations import RESTORE
from vector_backup_pipeline.terminal import TerminalProgressResource, summary
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child
from vector_backup_pipeline_tests.fix_sets import SetWriter

MOMENT = Progress(table="docs [x]", rows=500, bytes=2_000_000, seconds=2.0, percent=25.0)


def test_on_a_terminal_each_table_has_a_bar_and_stdout_stays_clean(
    installed: Database,
) -> None:
    ours, theirs = pty.openpty()
    with (
        # A terminal that is not read blocks its writer.
        ThreadPoolExecutor(1) as reader,
        child(
            [sys.executable, "-m", "vector_backup_pipeline.cli", "backup"],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=theirs,
        ) as process,
    ):
        os.close(theirs)
        reading = reader.submit(_read_all, ours)
        out, _ = process.communicate(timeout=60)
        drawn = reading.result(timeout=20)

    assert process.returncode == 0
    assert "langchain_pg_collection" in drawn
    assert "━" in drawn
    assert "58 rows, 100.0%" in drawn
    assert "✓ langchain_pg_embedding: 58 rows" in out
    assert "\x1b" not in out


def test_on_a_terminal_tables_are_folded_and_colored(root: Path) -> None:
    SetWriter(root / "vector_bak").write("20250102_000000", builds_on="20250101_000000")
    ours, theirs = pty.openpty()
    with child(
        [sys.executable, "-m", "vector_backup_pipeline.cli", "list"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "80"},
        stdout=theirs,
    ) as process:
        os.close(theirs)
        lines = _read_all(ours).splitlines()[-5:]
        assert process.wait(timeout=60) == 0

    assert "\x1b[31mdamaged\x1b[0m" in lines[1]
    plain = [click.unstyle(line) for line in lines]
    assert max(map(len, plain)) <= 80
    assert [line[54:].strip() for line in plain[1:4]] == [
        "damaged, builds on",
        "20250101_000000, which is",
        "missing or damaged",
    ]


def test_bars_are_drawn_while_a_step_redirects_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Dagster does in an instance with compute logs."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    progress = TerminalProgressResource()
    with os.fdopen(theirs, "w") as stderr, Path(os.devnull).open("wb") as null:
        monkeypatch.setattr(sys, "stderr", stderr)
        with dg.build_init_resource_context() as context:
            progress.setup_for_execution(context)
            os.dup2(null.fileno(), theirs)
            progress.table_started(MOMENT.table)
            progress.progressed(MOMENT)
            progress.teardown_after_execution(context)

    assert "500 rows, 25.0%" in _read_all(ours)


def _read_all(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # On Linux, after the other end was closed.
        pass
    finally:
        os.close(descriptor)
    return b"".join(parts).decode()


def test_a_summary_of_a_restore_has_a_line_for_each_finding() -> None:
    result = {
        "restore_performed": True,
        "outcome": "restored",
        "truncate_performed": False,
        "backup_info": {
            "backup_path": "/srv/vector_bak",
            "timestamp": "20250721_234914",
            "backup_date": "2025-07-21T23:49:14+08:00",
        },
        "truncate_results": {},
        "restore_results": {
            "docs": {
                "success": True,
                "source_file": "docs_20250721_234914.csv",
                "rows_restored": 58,
                "file_size": "764.0 KB",
                "duration": 0.1,
                "digest_matches": True,
            }
        },
        "not_recreated": {"docs": ["grants {=r/owner}"]},
        "recall_at_10": [
            {
                "table": "docs",
                "column": "embedding",
                "index": "by_distance",
                "metric": "<=>",
                "dimensions": [1536],
                "probes": 5,
                "recall": 0.98,
                "seconds": 0.2,
                "note": None,
            }
        ],
        "notices": ["The graph of by_distance needs more memory."],
        "errors": [],
        "duration": 1.25,
        "timestamp": "2025-07-21T23:49:14+08:00",
    }

    assert summary(RESTORE, result) == [
        "  ✓ docs: 58 rows <- docs_20250721_234914.csv (764.0 KB), content digest proven",
        "  ~ by_distance: recall@10 0.980 over 5 probes",
        "  - docs: not recreated: grants {=r/owner}",
        "  ! The graph of by_distance needs more memory.",
        "  from /srv/vector_bak, 1.2 s",
    ]
