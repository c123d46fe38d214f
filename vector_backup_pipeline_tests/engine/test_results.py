"""The result object, as the entry points and the manifest show it."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from vector_backup_pipeline.engine.errors import TableNotFound
from vector_backup_pipeline.engine.results import (
    BackupResult,
    ExportedTable,
    TruncatedTable,
    error_line,
    failed_table,
    readable_size,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.0 B"),
        (1023, "1023.0 B"),
        (1024, "1.0 KB"),
        (1024**2 - 1, "1.0 MB"),
        (3 * 1024**6, "3072.0 PB"),
    ],
)
def test_a_size_reads_in_units_of_1024_with_one_decimal(size: int, text: str) -> None:
    assert readable_size(size) == text


def test_the_result_is_the_documented_object() -> None:
    result = BackupResult(
        backup_performed=True,
        truncate_performed=True,
        backup_directory="/backups/vector_bak",
        tables_backed_up={
            "docs": ExportedTable(
                row_count=4,
                file_size="209.0 B",
                backup_file="docs_20250721_234914.csv",
                duration=0.105,
            ),
            "gone": failed_table(TableNotFound("The table gone is not there."), 0.00049),
        },
        truncate_results={"docs": TruncatedTable(rows_before=58, rows_after=0, duration=0.068)},
        errors=[error_line(TableNotFound("The table gone is not there."), "gone")],
        duration=0.498,
        timestamp=datetime(2025, 7, 21, 23, 49, 14, tzinfo=timezone(timedelta(hours=8))),
    )

    assert json.loads(json.dumps(result.as_json())) == {
        "backup_performed": True,
        "truncate_performed": True,
        "backup_directory": "/backups/vector_bak",
        "tables_backed_up": {
            "docs": {
                "success": True,
                "row_count": 4,
                "file_size": "209.0 B",
                "backup_file": "docs_20250721_234914.csv",
                "duration": 0.105,
            },
            "gone": {
                "success": False,
                "error_type": "TABLE_NOT_FOUND",
                "error": "The table gone is not there.",
                "duration": 0.0,
            },
        },
        "truncate_results": {
            "docs": {"success": True, "rows_before": 58, "rows_after": 0, "duration": 0.068}
        },
        "notices": [],
        "errors": ["gone: TABLE_NOT_FOUND: The table gone is not there."],
        "duration": 0.498,
        "timestamp": "2025-07-21T23:49:14+08:00",
    }
    assert BackupResult.model_validate_json(result.model_dump_json()) == result
