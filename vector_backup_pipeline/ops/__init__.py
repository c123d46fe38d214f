"""The steps of the runs, a module per operation: config in, an engine call, metadata out."""
