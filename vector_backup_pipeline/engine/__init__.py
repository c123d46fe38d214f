"""Backup as a plain library: everything that touches a row, nothing that knows Dagster."""
