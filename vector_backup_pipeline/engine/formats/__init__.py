"""Framing of rows: CSV as PostgreSQL writes it, blocks of whole rows, digests. Bytes to bytes."""
