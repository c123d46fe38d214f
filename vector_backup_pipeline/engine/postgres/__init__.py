"""All that speaks SQL: connections, the snapshot, rows out and in, definitions, truncation."""
