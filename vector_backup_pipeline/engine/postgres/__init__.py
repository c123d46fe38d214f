"""All that speaks SQL: connections, the snapshot, the catalogs, rows out and in, definitions read and
made again, truncation, commits."""
