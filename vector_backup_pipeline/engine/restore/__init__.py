"""Restoring a backup set from the stored files, all or nothing."""
