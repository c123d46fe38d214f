"""Restoring a backup set: from the stored files to proven tables, all or nothing."""
