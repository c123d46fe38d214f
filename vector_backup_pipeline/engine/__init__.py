"""Backup and restore as a library that does not depend on Dagster."""
