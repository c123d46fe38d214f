"""Reads tables' definitions from the server's catalogs.

Each module has the queries of a few catalogs. A query returns the statements that a restore runs:
PostgreSQL's own functions print them.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions import constraints
from vector_backup_pipeline.engine.postgres.definitions.dependencies import NeededObjects
from vector_backup_pipeline.engine.postgres.definitions.omissions import (
    computed_omissions,
    read_omissions,
)
from vector_backup_pipeline.engine.postgres.definitions.reading import Catalog
from vector_backup_pipeline.engine.postgres.definitions.sequences import (
    UsedSequence,
    read_sequences,
)
from vector_backup_pipeline.engine.postgres.definitions.tables import (
    Tree,
    read_columns,
    read_table_statements,
    read_trees,
)
from vector_backup_pipeline.engine.table_definition import (
    Definitions,
    Dependency,
    ForeignKey,
    Index,
    Kind,
    ObjectAddress,
    Omission,
    QualifiedName,
    Statement,
    TableDefinition,
)

__all__ = ["read_definitions"]

_Part = TypeVar("_Part")
_ORDER = {kind: number for number, kind in enumerate(Kind)}


def read_definitions(cursor: Cursor, oids: list[int]) -> Definitions:
    """The definitions of these tables and what they need first.

    `cursor` returns tuples, inside a transaction with `search_path = ''` (else names would be
    printed unqualified) that holds ACCESS SHARE on the tables **and all their partitions**: then
    nothing here waits, since pg_get_expr, pg_get_indexdef and the like lock at most the table. What
    would lock anything else (a sequence's value, a policy's subquery) is read in a savepoint with a
    short `lock_timeout`, and is an omission if it cannot be read. No privilege beyond SELECT on the
    tables is needed, and no user-defined code runs.

    Tables that do not exist any more are missing from the result. PostgreSQL 13 to 18.
    """
    trees = read_trees(cursor, oids)
    names = {oid: name for tree in trees for oid, name in tree.names.items()}
    partitions = [oid for tree in trees for oid in tree.names if oid != tree.root]
    reader = _Reader(Catalog(cursor, names, partitions))
    return Definitions(
        tables={tree.root: reader.definition(tree, tree.created_with(trees)) for tree in trees},
        dependencies=tuple(
            needed for needed in reader.objects.needed_by(names) if isinstance(needed, Dependency)
        ),
    )


class _Reader:
    """The catalog data of the tables, by the OID of a table or partition."""

    def __init__(self, catalog: Catalog) -> None:
        self.objects = NeededObjects(catalog)
        self._columns = read_columns(catalog)
        self._sequences = read_sequences(catalog)
        catalog.parameters["users"] = [sequence.table for sequence in self._sequences]
        catalog.parameters["sequences"] = [sequence.oid for sequence in self._sequences]
        self._parts: dict[int, list[object]] = defaultdict(list)
        for oid, part in (
            *read_omissions(catalog),
            *read_table_statements(catalog),
            *constraints.read_constraints(catalog),
            *constraints.read_indexes(catalog.cursor, catalog.parameters["oids"]),
            *constraints.read_policies(catalog),
            *constraints.read_changes(catalog),
        ):
            self._parts[oid].append(part)

    def definition(self, tree: Tree, created_with: QualifiedName | None) -> TableDefinition:
        columns = self._columns[tree.root]
        needed_objects = self.objects.needed_by(tree.names)
        sequences = self._sequences_of(tree)
        statements: list[Statement] = []
        created = tree.names if created_with is None else ()
        if created:
            statements = [statement for sequence in sequences for statement in sequence.statements]
            statements += self._parts_of(created, Statement)
        return TableDefinition(
            **tree.names[tree.root].model_dump(),
            owner=tree.owner,
            columns=columns,
            primary_key=tree.primary_key,
            created_with=created_with,
            # Distinct: several partitions may use one sequence, which has one comment.
            ddl=tuple(
                sorted(dict.fromkeys(statements), key=lambda statement: _ORDER[statement.kind])
            ),
            indexes=tuple(self._parts_of(created, Index)),
            foreign_keys=tuple(self._parts_of(created, ForeignKey)),
            sequences=tuple(sequence.definition for sequence in sequences),
            needs=tuple(needed.key for needed in needed_objects if isinstance(needed, Dependency)),
            requires=(
                *(needed for needed in needed_objects if isinstance(needed, ObjectAddress)),
                *dict.fromkeys(self._parts_of(tree.names, ObjectAddress)),
            ),
            omissions=(
                *self._parts_of(tree.names, Omission),
                *computed_omissions(columns, sequences),
            ),
        )

    def _parts_of(self, oids: Iterable[int], kind: type[_Part]) -> list[_Part]:
        return [part for oid in oids for part in self._parts[oid] if isinstance(part, kind)]

    def _sequences_of(self, tree: Tree) -> list[UsedSequence]:
        """Distinct sequences, preferring one that is owned by one of these tables."""
        distinct: dict[str, UsedSequence] = {}
        for sequence in self._sequences:
            if sequence.table in tree.names:
                distinct.setdefault(str(sequence.definition), sequence)
        return list(distinct.values())
