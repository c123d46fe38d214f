"""Backup: from one snapshot to durable files and a manifest, optionally truncating tables."""
