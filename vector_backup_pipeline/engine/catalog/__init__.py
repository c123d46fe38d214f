"""Which backup sets exist, which one is meant, and who is using it."""
