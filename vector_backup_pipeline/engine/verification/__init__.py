"""Verification of stored sets: their files, and in a restore test (drill) their restore."""
