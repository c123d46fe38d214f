"""Read tables' definitions from the server's catalogs, for an empty database to recreate them.

relations, columns, constraints, sequences, row_security, comments, omissions
    what the catalogs say of the tables and their partitions
dependencies, types, type_statements
    what the tables need first, and the statements that make it
statements, late_statements, assembly
    the tables' own statements, and all of it as `table_definition`'s nouns
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.assembly import (
    Catalog,
    table_definition,
)
from vector_backup_pipeline.engine.postgres.definitions.columns import read_columns
from vector_backup_pipeline.engine.postgres.definitions.comments import read_comments
from vector_backup_pipeline.engine.postgres.definitions.constraints import (
    read_constraints,
    read_indexes,
    read_statistics,
)
from vector_backup_pipeline.engine.postgres.definitions.dependencies import Graph, read_graph
from vector_backup_pipeline.engine.postgres.definitions.omissions import read_omissions
from vector_backup_pipeline.engine.postgres.definitions.relations import (
    Relations,
    read_relations,
)
from vector_backup_pipeline.engine.postgres.definitions.row_security import read_policies
from vector_backup_pipeline.engine.postgres.definitions.sequences import read_sequences
from vector_backup_pipeline.engine.postgres.definitions.types import (
    Prerequisites,
    read_prerequisites,
)
from vector_backup_pipeline.engine.table_definition import Definitions, Dependencies

__all__ = ["read_definitions"]


def read_definitions(cursor: Cursor, oids: Sequence[int]) -> Definitions:
    """The definitions of these tables and what they need first.

    `cursor` gives tuples, inside a transaction with `search_path = ''` (else names would print
    unqualified) that holds ACCESS SHARE on the tables **and all their partitions**: then nothing
    here waits, for pg_get_expr, pg_get_indexdef and their like lock the table itself, at most.
    What would lock anything else (a sequence's value, a policy's subquery) is read in a savepoint
    with a short `lock_timeout`, and named in `not_recreated` if not had. No privilege beyond
    SELECT on the tables is needed, and no code of users runs.

    Tables that are gone are missing from the result. PostgreSQL 13 to 18.
    """
    relations = read_relations(cursor, oids)
    everything = relations.oids
    sequences = read_sequences(cursor, {oid: relations.name(oid) for oid in everything})
    graph = read_graph(cursor, everything, sequences.oids)
    prerequisites = read_prerequisites(cursor, graph, graph.in_creation_order(everything))
    catalog = Catalog(
        relations=relations,
        columns=read_columns(cursor, everything),
        constraints=read_constraints(cursor, everything),
        indexes=read_indexes(cursor, everything),
        statistics=read_statistics(cursor, everything),
        sequences=sequences,
        policies=read_policies(cursor, everything),
        comments=read_comments(cursor, everything, sequences.oids),
        omissions=read_omissions(cursor, relations),
        graph=graph,
        prerequisites=prerequisites,
    )
    return Definitions(
        tables={oid: table_definition(cursor, catalog, oid) for oid in relations.asked},
        dependencies=_dependencies(graph, prerequisites, relations),
    )


def _dependencies(graph: Graph, prerequisites: Prerequisites, relations: Relations) -> Dependencies:
    order = graph.in_creation_order(relations.oids)
    return Dependencies(
        objects=tuple(
            prerequisites.recreated[each] for each in order if each in prerequisites.recreated
        ),
        not_recreated=tuple(
            str(prerequisites.external[each]) for each in order if each in prerequisites.external
        ),
    )
