"""What a person sees: bars on a terminal, lines elsewhere, a summary in the end."""

import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline import terminal
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline.terminal import (
    TerminalProgressResource,
    backup_summary,
    restore_summary,
    verification_summary,
)
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child

MOMENT = Progress(table="docs [x]", rows=500, bytes=2_000_000, seconds=2.0, percent=25.0)


def test_where_nobody_watches_a_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_SECONDS_BETWEEN_LINES", 0.0)
    progress = TerminalProgressResource()
    with dg.build_init_resource_context() as context:
        progress.setup_for_execution(context)
        progress.table_started(MOMENT.table)
        progress.progressed(MOMENT)
        progress.teardown_after_execution(context)

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "docs [x]: 500 rows, 25.0%, 250 rows/s, 1.0 MB/s, 6 s left\n"


def test_a_short_export_needs_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgressResource()
    progress.table_started(MOMENT.table)
    progress.progressed(MOMENT)

    assert capsys.readouterr().err == ""


def test_on_a_terminal_each_table_has_a_bar_and_stdout_stays_clean(
    langchain: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    ours, theirs = pty.openpty()
    # Read all the while: whoever draws waits when nobody does.
    with (
        ThreadPoolExecutor(1) as reader,
        child(
            [sys.executable, "-c", "from vector_backup_pipeline.cli import main; main()", "backup"],
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


def test_bars_are_drawn_while_a_step_redirects_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Dagster does in an instance that keeps compute logs."""
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
    except OSError:  # Linux says so that the other end is closed.
        pass
    finally:
        os.close(descriptor)
    return b"".join(parts).decode()


def test_the_summary_has_a_line_a_table_and_says_where_and_how_long() -> None:
    result = {
        "backup_performed": False,
        "truncate_performed": False,
        "backup_directory": "/backups",
        "tables_backed_up": {
            "a": {
                "success": True,
                "row_count": 4,
                "file_size": "209.0 B",
                "backup_file": "a_20250721_234914.csv",
                "duration": 0.1,
            },
            "b": {"success": False, "error_type": "X", "error": "Gone.", "duration": 0.1},
        },
        "truncate_results": {
            "a": {"success": True, "rows_before": 4, "rows_after": 0, "duration": 0.1}
        },
        "errors": ["b: X: Gone."],
        "duration": 1.25,
        "timestamp": "2025-07-21T23:49:14+08:00",
    }

    assert backup_summary(result).splitlines() == [
        "  ✓ a: 4 rows -> a_20250721_234914.csv (209.0 B)",
        "  ✗ b: FAILED - Gone.",
        "  ✓ a: 4 rows before, 0 after",
        "  in /backups, 1.2 s",
    ]


def test_a_restores_summary_says_what_is_proven_and_what_one_should_know() -> None:
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
        "duration": 0.498,
        "timestamp": "2025-07-22T23:49:14+08:00",
    }
    assert restore_summary(result).splitlines() == [
        "  ✓ docs: 58 rows <- docs_20250721_234914.csv (764.0 KB), content digest proven",
        "  ~ by_distance: recall@10 0.980 over 5 probes",
        "  - docs: not recreated: grants {=r/owner}",
        "  ! The graph of by_distance needs more memory.",
        "  from /srv/vector_bak, 0.5 s",
    ]


def test_a_verifications_summary_counts_what_passed() -> None:
    result = {
        "verified": False,
        "sets": [
            {
                "backup_path": "/srv/vector_bak",
                "timestamp": "20250721_234914",
                "backup_date": "2025-07-21T23:49:14+08:00",
                "complete": True,
                "files_passed": False,
                "passed": False,
                "verified_at": "2025-07-22T23:49:14Z",
                "tool_version": "0.1.0",
                "tables": {
                    "docs": {
                        "success": False,
                        "error_type": "INTEGRITY_ERROR",
                        "error": "docs.csv is not what was written.",
                        "duration": 0.1,
                    }
                },
                "drill": None,
                "errors": ["docs: INTEGRITY_ERROR: docs.csv is not what was written."],
            }
        ],
        "notices": [],
        "errors": ["20250721_234914: docs: INTEGRITY_ERROR: docs.csv is not what was written."],
        "duration": 0.1,
        "timestamp": "2025-07-22T23:49:14+08:00",
    }
    assert verification_summary(result).splitlines() == [
        "✗ 20250721_234914",
        "  ✗ docs: docs.csv is not what was written.",
        "0 of 1 sets passed, 0.1 s",
    ]
