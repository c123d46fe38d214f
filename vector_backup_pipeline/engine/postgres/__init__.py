"""All that speaks SQL: connections, the snapshot, the catalogs, rows out, truncation."""
