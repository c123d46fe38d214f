"""Texts for callers hold no path of the server."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vector_backup_pipeline.api.server_paths import without_paths

ROOT = "/srv/backups/training_data"
_NAMES = st.text("abcXYZ019_.-+@ä表", min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
_NAMES_WITH_BLANKS = st.text("ab0_.- ,;()", min_size=1, max_size=8).filter(
    lambda name: name.strip(" .") == name
)
_BEFORE = st.sampled_from(["", "Could not read ", "error: ", "x=", "(", "[", "<", "a, ", "at:"])
_AFTER = st.sampled_from(["", " was not found.", ": No space left", ")", "]", ", /x", ";", "\n"])
_QUOTE = st.sampled_from(["", "'", '"', "`"])


def _path(names: list[str]) -> str:
    return "".join(f"/{name}" for name in names)


@settings(max_examples=60, deadline=None)
@given(_BEFORE, st.lists(_NAMES, min_size=2, max_size=4), _QUOTE, _AFTER)
def test_of_a_path_elsewhere_only_its_last_part_is_told(
    before: str, names: list[str], quote: str, after: str
) -> None:
    path = _path(["outside", *names])

    told = without_paths(f"{before}{quote}{path}{quote}{after}", ROOT)

    assert "outside" not in told
    assert f"…/{names[-1]}" in told
    assert told.startswith(before)


@settings(max_examples=60, deadline=None)
@given(_BEFORE, st.lists(_NAMES, max_size=4), _QUOTE, _AFTER)
def test_a_path_under_the_root_is_told_relative_to_its_parent(
    before: str, names: list[str], quote: str, after: str
) -> None:
    told = without_paths(f"{before}{quote}{ROOT}{_path(names)}{quote}{after}", ROOT)

    assert "srv" not in told
    assert f"{before}{quote}training_data{_path(names)}" in told


@settings(max_examples=60, deadline=None)
@given(st.lists(_NAMES_WITH_BLANKS, min_size=2, max_size=4), st.sampled_from("'\""))
def test_a_quoted_path_may_hold_blanks_and_commas(names: list[str], quote: str) -> None:
    path = _path(["outside", *names])

    told = without_paths(f"No such file: {quote}{path}{quote}, and so on", ROOT)

    assert told == f"No such file: {quote}…/{names[-1]}{quote}, and so on"


@pytest.mark.parametrize("root", [ROOT, "/backups", "/", "s3://bucket/backups", None])
@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/backups/a_20250721_234914.csv",
        "s3://bucket/srv/backups/training_data/x",
        "gs://bucket",
        "az://container/backups/b",
        "postgresql://user@host/db",
        "postgresql://user:***@[::1]:5432/backups?sslmode=require",
        "postgresql:///db",
        "http://127.0.0.1:3000/graphql",
        "http://[::1]/graphql",
        "https://docs.example.com/backups/x.html#y",
        "training_data/corpus_7/vector_bak",
        "./backups/x ../backups/y ~/backups/z",
        "14210.5 rows/s, 8 MB/s, and/or, 3/4, n/a",
        "50 %/s",
        "1 / 2, a / b, 'a' / 'b'",
        "application/json; text/csv",
        "C:\\data/backups",
        "",
        "/",
    ],
)
def test_urls_relative_paths_and_units_stay(text: str, root: str | None) -> None:
    assert without_paths(text, root) == text
    assert without_paths(f"Read {text} again.", root) == f"Read {text} again."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/etc/passwd", "…/passwd"),
        ("//etc/passwd", "…/passwd"),
        ("///etc/passwd", "…/passwd"),
        ("at:/etc/passwd", "at:…/passwd"),
        ("file:///etc/passwd", "…/passwd"),
        ("file:///srv/backups/training_data/x", "…/x"),
        ("'/home/me/my data/x y.csv'", "'…/x y.csv'"),
        ("\"/home/me/my data/x\" and '/b/c'", "\"…/x\" and '…/c'"),
        ("/etc/", "…/etc"),
        ("/srv/backups/training_data_old/x", "…/x"),
        ("/mnt/srv/backups/training_data/x", "…/x"),
        ("/srv/backups", "…/backups"),
        ("/a/b:/c/d,/e/f", "…/b:…/d,…/f"),
        (f"{ROOT}/x and {ROOT}.", "training_data/x and training_data."),
    ],
)
def test_any_other_path_is_cut(text: str, told: str) -> None:
    assert without_paths(text, ROOT) == told


def test_a_text_may_be_treated_twice() -> None:
    once = without_paths(f"{ROOT}/x, /etc/passwd, '/a b/c d'", ROOT)
    assert without_paths(once, ROOT) == once


def test_a_root_may_have_any_name() -> None:
    for name in (r"a\1b", "a+b(c)", "a b", "[x]", "数据"):
        root = f"/srv/{name}"
        assert without_paths(f"In {root}/t/x.csv.", root) == f"In {name}/t/x.csv."


def test_results_are_treated_throughout_and_keep_their_backup_directory() -> None:
    result: dict[str, Any] = {
        "backup_directory": f"{ROOT}/vector_bak",
        "errors": [f"docs: STORAGE_ERROR: {ROOT}/x: No space left", "/var/log/x"],
        "backup_info": {"backup_path": f"{ROOT}/vector_bak", "backup_directory": "/kept"},
        "duration": 0.5,
        "performed": True,
        "nothing": None,
    }

    assert without_paths(result, ROOT) == {
        "backup_directory": f"{ROOT}/vector_bak",
        "errors": ["docs: STORAGE_ERROR: training_data/x: No space left", "…/x"],
        "backup_info": {"backup_path": "training_data/vector_bak", "backup_directory": "/kept"},
        "duration": 0.5,
        "performed": True,
        "nothing": None,
    }
    # The result itself may be kept by who has it.
    assert result["errors"][1] == "/var/log/x"
