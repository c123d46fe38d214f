"""`vector-backup list`, `show` and `stats`."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter
from vector_backup_pipeline_tests.fix_terminal import Terminal


@pytest.fixture
def sets(root: Path) -> SetWriter:
    """Sets in the root's own directory."""
    return SetWriter(root / "vector_bak")


def _cells(line: str) -> list[str]:
    """The columns of a line, separated by at least two spaces."""
    return re.split(r" {2,}", line.strip())


def test_each_location_is_a_table(terminal: Terminal, root: Path, sets: SetWriter) -> None:
    sets.write("20250101_000000")
    sets.write("20250102_000000", {COLLECTION: 4}, builds_on="20250101_000000")
    sets.file("t_20250103_000000.csv")
    of_task = SetWriter(root / "corpus_7" / "vector_bak")
    of_task.older("20250104_000000")
    of_task.adopt()
    of_task.older("20250105_000000")

    listed = terminal("list")

    assert (listed.code, listed.err) == (0, "")
    lines = [re.sub(r"\d+ d ago", "N d ago", line) for line in listed.out.splitlines()]
    assert [_cells(line) for line in lines] == [
        [f"Backups of the root: {root}/vector_bak"],
        ["TIMESTAMP", "AGE", "DATABASE", "ROWS", "SIZE", "STATE"],
        ["20250102_000000", "N d ago", "d", "4", "88.0 B", "complete, builds on 20250101_000000"],
        ["20250101_000000", "N d ago", "d", "62", "1.2 KB", "complete"],
        ["2 sets, 1.3 KB"],
        ["orphan: t_20250103_000000.csv"],
        [""],
        [f"Backups of task corpus_7: {root}/corpus_7/vector_bak"],
        ["TIMESTAMP", "AGE", "DATABASE", "ROWS", "SIZE", "STATE"],
        ["20250104_000000", "N d ago", "older_system", "62", "522.0 B", "complete"],
        ["1 set, 522.0 B"],
        *([f"adoptable: {table}_20250105_000000.csv"] for table in (COLLECTION, EMBEDDING)),
    ]
    of_task_alone = terminal("list", "--task-id", "corpus_7").out
    of_root_alone = terminal("list", "--global-only").out
    assert f"{of_root_alone}\n{of_task_alone}" == listed.out


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (
            '{"passed": true, "verified_at": "2026-11-24T10:00:00Z", "drill": {"passed": false}}',
            "complete, verified 2026-11-24, drill failed 2026-11-24",
        ),
        (
            '{"passed": false, "verified_at": "2026-11-24T10:00:00Z"}',
            "damaged, verification failed 2026-11-24",
        ),
        ("{", "complete"),
    ],
)
def test_the_verdict_on_a_set_is_shown(
    terminal: Terminal, sets: SetWriter, verdict: str, state: str
) -> None:
    sets.write("20250101_000000")
    sets.file("vector_backup_20250101_000000.verified.json", verdict.encode())

    assert _cells(terminal("list").out.splitlines()[2])[5] == state


def test_damage_is_shown(terminal: Terminal, sets: SetWriter) -> None:
    sets.write("20250104_000000", truncate="done", truncated=[EMBEDDING])
    sets.file(f"{COLLECTION}_20250104_000000.csv", b"short")
    sets.write("20250103_000000")
    (sets.path / f"{COLLECTION}_20250103_000000.csv").unlink()
    sets.file("vector_backup_20250102_000000.json", b"{")

    lines = terminal("list").out.splitlines()[2:5]

    states = [_cells(line)[5] for line in lines]
    assert states == [f"damaged, truncated {EMBEDDING}", "damaged", "damaged"]
    changed = terminal("show", "20250104_000000", "--json").document["tables"][COLLECTION]
    assert (changed["rows"], changed["bytes"], changed["stored_bytes"]) == (4, 88, 5)
    missing = terminal("show", "20250103_000000", "--json").document["tables"][COLLECTION]
    assert (missing["bytes"], missing["stored_bytes"]) == (88, None)
    unreadable = terminal("show", "20250102_000000").out
    assert "  The manifest vector_backup_20250102_000000.json is" in unreadable


def test_control_characters_in_file_names_are_not_printed(
    terminal: Terminal, sets: SetWriter
) -> None:
    sets.file("\x1b[2Jt\n_20250101_000000.csv")

    assert "  orphan: ?[2Jt?_20250101_000000.csv\n" in terminal("list").out


def test_without_backups_the_list_says_so(terminal: Terminal, root: Path) -> None:
    listed = terminal("list")

    assert (listed.code, listed.out) == (0, f"No backups under {root}.\n")


def test_a_set_is_shown_with_its_chain_and_its_tables(terminal: Terminal, sets: SetWriter) -> None:
    sets.write("20250101_000000")
    sets.write("20250102_000000", {COLLECTION: 4}, builds_on="20250101_000000")
    sets.write("20250103_000000", {COLLECTION: 4}, builds_on="20250102_000000", failed=["t"])
    sets.verdict("20250102_000000", drill=False)

    shown = terminal("show", "latest")

    assert (shown.code, shown.err) == (0, "")
    lines = [_cells(line) for line in shown.out.splitlines()]
    assert lines[0] == [f"Set 20250102_000000 in {sets.path}"]
    assert ["Verified", "passed"] in lines
    assert ["Drill", "failed"] in lines
    assert ["Chain", "20250101_000000"] in lines
    table = lines.index([f"Table {COLLECTION}"])
    assert lines[table + 1 : table + 3] == [["Rows", "4"], ["Bytes", "88.0 B"]]
    document = terminal("show", "20250103_000000", "--json").document
    assert (document["state"], document["run_id"]) == ("incomplete", "run")
    assert document["chain"] == ["20250102_000000", "20250101_000000"]
    assert terminal("show", "20250109_000000").err.startswith("RESOURCE_NOT_FOUND: There is no bac")


def test_statistics_are_of_each_location_and_of_all(
    terminal: Terminal, root: Path, sets: SetWriter
) -> None:
    now = datetime.now(timezone.utc)
    for days, rows in ((40, 4), (20, 6), (0, 5)):
        moment = now - timedelta(days=days)
        sets.write(f"{moment:%Y%m%d_%H%M%S}", {COLLECTION: rows}, created_at=moment)
    SetWriter(root / "corpus_7" / "vector_bak").write("20250101_000000", {"t": 3})

    lines = [_cells(line) for line in terminal("stats").out.splitlines()]

    assert lines == [
        ["LOCATION", "SETS", "SIZE", "SAVED", "ROWS", "7 DAYS", "30 DAYS"],
        ["the root", "3", "321.0 B", "0.0 B", "5", "107.0 B, -1 rows", "233.0 B, +1 rows"],
        ["task corpus_7", "1", "69.0 B", "0.0 B", "3", "0.0 B, +0 rows", "0.0 B, +0 rows"],
        ["total", "4", "390.0 B", "0.0 B", "8", "107.0 B, -1 rows", "233.0 B, +1 rows"],
    ]
    document = terminal("stats", "--json").document
    assert document["total"]["bytes"] == 390
    assert [location["task_id"] for location in document["locations"]] == [None, "corpus_7"]
