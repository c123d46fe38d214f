"""Back up PostgreSQL's pgvector tables with Dagster, and get them back whole."""

__version__ = "0.1.0"
