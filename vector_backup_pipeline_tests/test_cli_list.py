"""`vector-backup list`."""

import re
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
    lines = listed.out.splitlines()
    assert lines[0] == f"Backups of the root: {root}/vector_bak"
    file = f"{COLLECTION}_2025010{{}}_000000.csv (4 rows, 88.0 B)"
    assert [_cells(line) for line in lines[1:5]] == [
        ["TIMESTAMP", "DATE", "DATABASE", "STATE", "FILES"],
        [
            "20250102_000000",
            "2025-01-02 00:00:00 UTC",
            "d",
            "complete, builds on 20250101_000000",
            file.format(2),
        ],
        ["20250101_000000", "2025-01-01 00:00:00 UTC", "d", "complete", file.format(1)],
        [f"{EMBEDDING}_20250101_000000.csv (58 rows, 1.1 KB)"],
    ]
    assert lines[4].index(EMBEDDING) == lines[3].index(COLLECTION)
    assert lines[5:8] == [
        "  orphan: t_20250103_000000.csv",
        "",
        f"Backups of task corpus_7: {root}/corpus_7/vector_bak",
    ]
    adopted = f"{COLLECTION}_20250104_000000.csv (4 rows, 45.0 B)"
    assert _cells(lines[9])[2:] == ["older_system", "complete", adopted]
    assert lines[11:] == [
        f"  adoptable: {table}_20250105_000000.csv" for table in (COLLECTION, EMBEDDING)
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

    assert _cells(terminal("list").out.splitlines()[2])[3] == state


def test_damage_is_shown(terminal: Terminal, sets: SetWriter) -> None:
    sets.write("20250104_000000", truncate="done", truncated=[EMBEDDING])
    sets.file(f"{COLLECTION}_20250104_000000.csv", b"short")
    sets.write("20250103_000000")
    (sets.path / f"{COLLECTION}_20250103_000000.csv").unlink()
    sets.file("vector_backup_20250102_000000.json", b"{")

    lines = terminal("list").out.splitlines()[2:]

    states = [_cells(line)[3] for line in lines if line.startswith("  2025")]
    assert states == [f"damaged, truncated {EMBEDDING}", "damaged", "damaged"]
    assert f"{COLLECTION}_20250104_000000.csv (4 rows, 88.0 B, 5.0 B stored)" in lines[0]
    assert f"{COLLECTION}_20250103_000000.csv (4 rows, 88.0 B, missing)" in lines[2]


def test_control_characters_in_file_names_are_not_printed(
    terminal: Terminal, sets: SetWriter
) -> None:
    sets.file("\x1b[2Jt\n_20250101_000000.csv")

    assert "  orphan: ?[2Jt?_20250101_000000.csv\n" in terminal("list").out


def test_without_backups_the_list_says_so(terminal: Terminal, root: Path) -> None:
    listed = terminal("list")

    assert (listed.code, listed.out) == (0, f"No backups under {root}.\n")


def test_a_set_whose_base_is_missing_is_damaged(terminal: Terminal, sets: SetWriter) -> None:
    sets.write("20250102_000000", {"t": 1}, builds_on="20250101_000000")

    line = terminal("list").out.splitlines()[2]

    assert _cells(line)[3] == "damaged, builds on 20250101_000000, which is missing or damaged"
