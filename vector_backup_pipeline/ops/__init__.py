"""The steps of a run, one module each: config in, one call to the engine, metadata out."""
