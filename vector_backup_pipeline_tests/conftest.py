"""Fixtures for every test, by subject in the `fix_*` modules."""

from pathlib import Path

import pytest

pytest_plugins = [
    "vector_backup_pipeline_tests.fix_backup",
    "vector_backup_pipeline_tests.fix_checkup",
    "vector_backup_pipeline_tests.fix_object_store",
    "vector_backup_pipeline_tests.fix_postgres",
    "vector_backup_pipeline_tests.fix_prune",
    "vector_backup_pipeline_tests.fix_restore",
    "vector_backup_pipeline_tests.fix_rows",
    # Last, since it imports from the others, which pytest wants to import itself.
    "vector_backup_pipeline_tests.fix_dagster",
    "vector_backup_pipeline_tests.fix_terminal",
    "vector_backup_pipeline_tests.fix_api",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two processes that share the tests, one takes all that need `dagster dev`, so that there
    is one of it; a module stays together, for what its tests share."""
    for item in items:
        module = item.path.relative_to(Path(__file__).parent)
        group = module.parts[0] if module.parts[0] == "end_to_end" else str(module)
        item.add_marker(pytest.mark.xdist_group(group))
