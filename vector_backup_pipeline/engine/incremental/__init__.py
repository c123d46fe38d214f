"""Incremental backups: key files, chains of sets, and what changed between two sets."""
