"""Make, in a target database, the tables that a backup's manifest holds and the target lacks.

tables
    a new table, its place, and in which order tables come
lookups
    what the target has: relations, schemas, roles, types
names
    names of the backup's objects in the scratch schemas and in the target
extensions
    whether the target has them, new enough, and where their members are
prerequisites
    extensions, collations and types: which are missing, and their making
sequences, checks
    what must exist, what must not, and what may be shared
index_options
    storage parameters, which another server may not know
external_objects
    functions, operators and others that a backup only names, and the target must have
naming, moves
    the way from the scratch schemas to the final schemas and names
recreation
    all of it in the order of `table_definition`
"""

from __future__ import annotations

from vector_backup_pipeline.engine.postgres.recreation.recreation import Recreation
from vector_backup_pipeline.engine.postgres.recreation.tables import NewTable

__all__ = ["NewTable", "Recreation"]
