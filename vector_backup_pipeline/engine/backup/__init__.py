"""Backing up: from one snapshot to durable files, a manifest, and if asked emptied tables."""
