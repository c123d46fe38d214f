"""Retention: which backup sets of a location are kept, and the removal of the others."""
