"""Everything that sends SQL: connections, the snapshot, COPY, definitions, truncation."""
