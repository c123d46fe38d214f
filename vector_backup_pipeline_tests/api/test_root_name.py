"""Texts for callers name the backup root as the list of backups does."""

from typing import Any

import pytest

from vector_backup_pipeline.api.root_name import with_root_name

ROOT = "/srv/backups/training_data"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"There is no directory {ROOT}.", "There is no directory training_data."),
        (f"{ROOT}/x and '{ROOT}/y z'", "training_data/x and 'training_data/y z'"),
        (
            f'Read "{ROOT}/x" ({ROOT})\n{ROOT}',
            'Read "training_data/x" (training_data)\ntraining_data',
        ),
        (f"/mnt{ROOT}/x", f"/mnt{ROOT}/x"),
        (f"s3://bucket{ROOT}/x", f"s3://bucket{ROOT}/x"),
        ("14210.5 rows/s, training_data/corpus_7", "14210.5 rows/s, training_data/corpus_7"),
        ("", ""),
    ],
)
def test_the_root_is_replaced_by_its_name(text: str, expected: str) -> None:
    assert with_root_name(text, ROOT) == expected
    assert with_root_name(expected, ROOT) == expected


@pytest.mark.parametrize("root", ["/", "s3://bucket/backups"])
def test_a_root_without_a_name_and_a_bucket_stay(root: str) -> None:
    text = "Could not read s3://bucket/backups/x, /etc/x"
    assert with_root_name(text, root) == text


def test_results_are_changed_throughout_and_keep_their_backup_directory() -> None:
    result: dict[str, Any] = {
        "backup_directory": f"{ROOT}/vector_bak",
        "errors": [f"docs: STORAGE_ERROR: {ROOT}/x: No space left"],
        "tables_backed_up": {"docs": {"error": f"In {ROOT}/x", "duration": 0.5}},
        "nothing": None,
    }

    assert with_root_name(result, ROOT) == {
        "backup_directory": f"{ROOT}/vector_bak",
        "errors": ["docs: STORAGE_ERROR: training_data/x: No space left"],
        "tables_backed_up": {"docs": {"error": "In training_data/x", "duration": 0.5}},
        "nothing": None,
    }
    # The caller's own object is unchanged.
    assert result["tables_backed_up"]["docs"]["error"] == f"In {ROOT}/x"
