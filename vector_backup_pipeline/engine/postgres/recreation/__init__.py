"""Creates, in a target database, the tables of a backup that the target lacks.

recreation
    the steps in their order
extensions, requirements
    what the tables need and the backup does not contain: whether the target has it
target_objects
    what the target has: tables, sequences, types, schemas
names, moves
    names in the staging schemas, and the way to the final schemas and names
"""

from __future__ import annotations

from vector_backup_pipeline.engine.postgres.recreation.names import NewTable
from vector_backup_pipeline.engine.postgres.recreation.recreation import Recreation

__all__ = ["NewTable", "Recreation"]
