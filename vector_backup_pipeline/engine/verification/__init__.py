"""Proving stored sets again: their files, and in a drill their restore."""
