"""Fixtures for every test, by subject in the `fix_*` modules."""

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
