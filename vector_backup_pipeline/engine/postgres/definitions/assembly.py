"""From what was read to the definitions: one relation at a time, then each table's statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions import late_statements, omissions
from vector_backup_pipeline.engine.postgres.definitions import statements as making
from vector_backup_pipeline.engine.postgres.definitions.constraints import Indexes
from vector_backup_pipeline.engine.postgres.definitions.dependencies import Graph
from vector_backup_pipeline.engine.postgres.definitions.reading import options, text
from vector_backup_pipeline.engine.postgres.definitions.relations import Relations
from vector_backup_pipeline.engine.postgres.definitions.row_security import Policies
from vector_backup_pipeline.engine.postgres.definitions.sequences import Sequences
from vector_backup_pipeline.engine.postgres.definitions.statements import Creation
from vector_backup_pipeline.engine.postgres.definitions.types import Prerequisites
from vector_backup_pipeline.engine.table_definition import (
    Column,
    Comment,
    Constraint,
    ForeignKey,
    Partition,
    QualifiedName,
    Relation,
    Sequence,
    SequenceComment,
    SequenceValue,
    Statistics,
    TableDefinition,
    UnreadPolicy,
)

_KINDS = {"r": "ordinary", "p": "partitioned", "f": "foreign"}
_PERSISTENCES = {"p": "permanent", "u": "unlogged", "t": "temporary"}
_REPLICA_IDENTITIES = {"d": "default", "f": "full", "n": "nothing", "i": "index"}
_R = TypeVar("_R", bound=Relation)


@dataclass(frozen=True)
class Catalog:
    """All that was read, each by table."""

    relations: Relations
    columns: dict[int, list[Column]]
    constraints: dict[int, list[Constraint]]
    indexes: Indexes
    statistics: dict[int, list[Statistics]]
    sequences: Sequences
    policies: Policies
    comments: dict[int, list[Comment]]
    omissions: dict[int, list[str]]
    graph: Graph
    prerequisites: Prerequisites


def table_definition(cursor: Cursor, catalog: Catalog, oid: int) -> TableDefinition:
    whole_tree = [oid, *(node.oid for node in catalog.relations.partitions[oid])]
    sequences = _distinct_sequences(catalog, whole_tree)
    needed = catalog.graph.in_creation_order(whole_tree)
    creator = catalog.relations.created_with(oid)
    row = catalog.relations.rows[oid]
    plain = _relation(
        catalog,
        oid,
        TableDefinition,
        partitions=tuple(_partitions(catalog, oid)),
        partition_of=_parents(catalog, oid)[0] if row["relispartition"] else None,
        partition_bound=row["bound"],
        created_with=None if creator is None else catalog.relations.name(creator),
        inherits=_inherits(catalog, oid),
        sequences=sequences,
        sequence_values=tuple(_values(sequences)),
        needs=tuple(
            catalog.prerequisites.recreated[each].key
            for each in needed
            if each in catalog.prerequisites.recreated
        ),
        external_objects=tuple(
            catalog.prerequisites.external[each]
            for each in needed
            if each in catalog.prerequisites.external
        ),
        not_recreated=tuple(_not_recreated(catalog, oid, whole_tree, sequences)),
        unread_policies=tuple(
            UnreadPolicy(table=catalog.relations.name(each), name=policy)
            for each in whole_tree
            for policy in catalog.policies.unread.get(each, [])
        ),
    )
    if creator is not None:
        return plain
    return plain.model_copy(update=_statements(cursor, catalog, oid, plain))


def _relation(catalog: Catalog, oid: int, noun: type[_R], **more: Any) -> _R:
    row = catalog.relations.rows[oid]
    constraints = catalog.constraints.get(oid, [])
    return noun.model_validate(
        {
            "schema_name": row["schema_name"],
            "name": row["name"],
            "kind": _KINDS[row["relkind"]],
            "persistence": _PERSISTENCES[row["relpersistence"]],
            "access_method": row["access_method"],
            "options": options(row["reloptions"]),
            "toast_options": options(row["toast_reloptions"]),
            "owner": row["owner"],
            "columns": catalog.columns.get(oid, []),
            "primary_key": next((c.columns for c in constraints if c.kind == "p"), ()),
            "constraints": constraints,
            "indexes": catalog.indexes.secondary.get(oid, []),
            "statistics": catalog.statistics.get(oid, []),
            "policies": catalog.policies.by_table.get(oid, []),
            "row_security": row["row_security"],
            "row_security_forced": row["row_security_forced"],
            "replica_identity": _REPLICA_IDENTITIES[row["relreplident"]],
            "replica_identity_index": catalog.indexes.replica_identity.get(oid),
            "clustered_on": catalog.indexes.clustered.get(oid),
            "partition_key": row["partition_key"],
            "of_type": row["of_type"],
            "comments": catalog.comments.get(oid, []),
            **more,
        }
    )


def _partitions(catalog: Catalog, oid: int) -> Iterator[Partition]:
    for node in catalog.relations.partitions[oid]:
        yield _relation(
            catalog,
            node.oid,
            Partition,
            parent=catalog.relations.name(node.parent),
            bound=catalog.relations.rows[node.oid]["bound"],
        )


def _parents(catalog: Catalog, oid: int) -> list[QualifiedName]:
    return [parent.name for parent in catalog.relations.parents.get(oid, [])]


def _inherits(catalog: Catalog, oid: int) -> tuple[QualifiedName, ...]:
    """The parents, if all of them are backed up too; else the table stands on its own."""
    parents = catalog.relations.parents.get(oid, [])
    if catalog.relations.rows[oid]["relispartition"]:
        return ()
    if any(parent.oid not in catalog.relations.asked for parent in parents):
        return ()
    return tuple(parent.name for parent in parents)


def _distinct_sequences(catalog: Catalog, tree: list[int]) -> tuple[Sequence, ...]:
    """Each once: as what it is to its owner, where one of these tables owns it.

    A partition's own identity (servers before 17 had them) has no place in a partition tree.
    """
    found = [
        each
        for oid in tree
        for each in catalog.sequences.by_table.get(oid, [])
        if each.role != "identity" or oid == tree[0]
    ]
    distinct: dict[str, Sequence] = {}
    for each in sorted(found, key=lambda sequence: sequence.role == "shared"):
        distinct.setdefault(str(each), each)
    return tuple(distinct.values())


def _values(sequences: Iterable[Sequence]) -> Iterator[SequenceValue]:
    for each in sequences:
        if each.last_value is not None and each.is_called is not None:
            yield SequenceValue(
                schema_name=each.schema_name,
                name=each.name,
                last_value=each.last_value,
                is_called=each.is_called,
            )


def _not_recreated(
    catalog: Catalog, oid: int, tree: list[int], sequences: tuple[Sequence, ...]
) -> Iterator[str]:
    table = catalog.relations.name(oid)
    for each in tree:
        whose = catalog.relations.name(each)
        for what in catalog.omissions.get(each, []):
            yield omissions.about(table, whose, what)
        for column in catalog.columns.get(each, []):
            if column.type.is_large_object:
                yield omissions.about(table, whose, omissions.large_objects(column.name))
        for sequence in catalog.sequences.grants.get(each, []):
            yield omissions.about(table, whose, "grants on sequence " + sequence)
    yield from omissions.of_sequences(list(sequences))
    yield from _lost_ties(catalog, oid)
    for thing in catalog.graph.in_creation_order(tree):
        if thing in catalog.prerequisites.external:
            yield str(catalog.prerequisites.external[thing])


def _lost_ties(catalog: Catalog, oid: int) -> Iterator[str]:
    row = catalog.relations.rows[oid]
    for node in catalog.relations.partitions[oid]:
        for each in catalog.sequences.by_table.get(node.oid, []):
            if each.role == "identity":
                yield "identity of " + str(each.table) + "." + each.column + ", a partition's own"
    if catalog.relations.created_with(oid) is not None or _inherits(catalog, oid):
        return
    own = {each.column for each in catalog.sequences.by_table.get(oid, [])}
    for column in catalog.columns.get(oid, []):
        if column.identity and column.name not in own:
            yield "identity of column " + column.name + ", which the partitioned table has"
    for parent in _parents(catalog, oid):
        if row["relispartition"]:
            yield "place as a partition of " + str(parent) + " " + row["bound"]
        else:
            yield "inheritance from " + str(parent)


def _statements(
    cursor: Cursor, catalog: Catalog, oid: int, table: TableDefinition
) -> dict[str, tuple[Any, ...]]:
    def texts(made: Iterable[sql.Composable]) -> tuple[str, ...]:
        return tuple(text(cursor, statement) for statement in made)

    relations: list[tuple[Relation, Creation]] = [
        (table, Creation.CHILD if table.inherits else Creation.WHOLE),
        *((partition, Creation.PARTITION) for partition in table.partitions),
    ]
    made_first = [each for each in table.sequences if each.role != "identity"]
    return {
        "sequence_ddl": texts(making.create_sequence(each) for each in made_first),
        "ddl": texts(_create(catalog, oid, table, relations)),
        "preference_ddl": texts(wish for each, _ in relations for wish in making.preferences(each)),
        "key_ddl": texts(_keys(table, relations)),
        "index_ddl": texts(_indexes(table, relations)),
        "late_constraint_ddl": texts(
            late for each, how in relations for late in making.late_constraints(each, how)
        ),
        "foreign_keys": tuple(_foreign_keys(cursor, relations)),
        "row_security_ddl": texts(
            made for each, _ in relations for made in late_statements.row_security(each)
        ),
        "comment_ddl": texts(_comments(relations)),
        "sequence_comments": tuple(_sequence_comments(cursor, relations, table.sequences)),
    }


def _create(
    catalog: Catalog,
    oid: int,
    table: TableDefinition,
    relations: list[tuple[Relation, Creation]],
) -> Iterator[sql.Composable]:
    for relation, how in relations:
        if how is Creation.CHILD:
            above = [
                _relation(catalog, parent.oid, Relation)
                for parent in catalog.relations.parents[oid]
            ]
            child = making.saying_what_parents_say_late(relation, above)
            yield making.create_table(child, how, table.sequences, table.inherits)
            yield from making.inherited_column_changes(child, above, table.sequences)
        else:
            yield making.create_table(relation, how, table.sequences)
        yield from making.column_settings(relation)
        yield from making.type_of(relation)
    for partition in table.partitions:
        yield making.attach_partition(partition)
    for sequence in table.sequences:
        if sequence.role == "serial":
            yield making.own_sequence(sequence)


def _keys(
    table: TableDefinition, relations: list[tuple[Relation, Creation]]
) -> Iterator[sql.Composable]:
    for relation, _ in relations:
        yield from making.keys(relation)
    for partition in table.partitions:
        yield from making.attach_keys(partition)


def _indexes(
    table: TableDefinition, relations: list[tuple[Relation, Creation]]
) -> Iterator[sql.Composable]:
    for relation, _ in relations:
        yield from making.indexes(relation)
    for partition in table.partitions:
        yield from making.attach_indexes(partition)
    for relation, _ in relations:
        yield from making.index_choices(relation)
        yield from making.statistics(relation)


def _foreign_keys(
    cursor: Cursor, relations: list[tuple[Relation, Creation]]
) -> Iterator[ForeignKey]:
    for relation, how in relations:
        for constraint, references, statement in making.foreign_keys(relation, how):
            yield ForeignKey(
                table=QualifiedName(schema_name=relation.schema_name, name=relation.name),
                name=constraint.name,
                references=references,
                ddl=text(cursor, statement),
            )


def _comments(relations: list[tuple[Relation, Creation]]) -> Iterator[sql.Composable]:
    for relation, _ in relations:
        for comment in relation.comments:
            if comment.on != "SEQUENCE":
                yield late_statements.comment_on(relation, comment)


def _sequence_comments(
    cursor: Cursor, relations: list[tuple[Relation, Creation]], sequences: Iterable[Sequence]
) -> Iterator[SequenceComment]:
    """One for each sequence, also if several partitions use it."""
    named = {
        (comment.schema_name, comment.name): late_statements.comment_on(relation, comment)
        for relation, _ in relations
        for comment in relation.comments
        if comment.on == "SEQUENCE"
    }
    for each in sequences:
        statement = named.get((each.schema_name, each.name))
        if statement is not None:
            yield SequenceComment(
                schema_name=each.schema_name, name=each.name, ddl=text(cursor, statement)
            )
