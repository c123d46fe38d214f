"""Creates, in a target database, the tables of a backup that the target lacks."""

from vector_backup_pipeline.engine.postgres.recreation.names import NewTable
from vector_backup_pipeline.engine.postgres.recreation.recreation import Recreation

__all__ = ["NewTable", "Recreation"]
