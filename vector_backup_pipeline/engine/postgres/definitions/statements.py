"""The statements that make a table, in the way of pg_dump: pure functions over the nouns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from psycopg2 import sql

from vector_backup_pipeline.engine.table_definition import (
    Column,
    Constraint,
    Partition,
    QualifiedName,
    Relation,
    Sequence,
)


class Creation(Enum):
    """How a relation comes to be, which decides what it must say itself.

    A partition says all of its columns and checks, since ATTACH PARTITION merges them; an
    inheritance child says only its own, as INHERITS brings the others.
    """

    WHOLE = "whole"
    PARTITION = "partition"
    CHILD = "child"

    def says(self, local: bool) -> bool:
        return local or self is not Creation.CHILD

    def adds(self, local: bool) -> bool:
        """For what is added later and reaches partitions and children from their parent."""
        return local or self is Creation.WHOLE


def named(thing: QualifiedName) -> sql.Identifier:
    return sql.Identifier(thing.schema_name, thing.name)


def create_sequence(sequence: Sequence) -> sql.Composable:
    """IF NOT EXISTS: several tables may draw from one sequence, and each names it."""
    return sql.SQL("CREATE {}SEQUENCE IF NOT EXISTS {} AS {} {}").format(
        sql.SQL("UNLOGGED " if sequence.unlogged else ""),
        named(sequence),
        sql.SQL(sequence.data_type),
        _sequence_options(sequence),
    )


def own_sequence(sequence: Sequence) -> sql.Composable:
    return sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(
        named(sequence),
        sql.Identifier(sequence.table.schema_name, sequence.table.name, sequence.column),
    )


def _sequence_options(sequence: Sequence) -> sql.Composable:
    options = sql.SQL("START WITH {} INCREMENT BY {} MINVALUE {} MAXVALUE {} CACHE {}").format(
        sql.Literal(sequence.start),
        sql.Literal(sequence.increment),
        sql.Literal(sequence.minimum),
        sql.Literal(sequence.maximum),
        sql.Literal(sequence.cache),
    )
    return sql.SQL("{} CYCLE").format(options) if sequence.cycle else options


def create_table(
    table: Relation,
    how: Creation,
    sequences: Iterable[Sequence],
    inherits: Iterable[QualifiedName] = (),
) -> sql.Composable:
    identities = _identities(table, sequences)
    lines: list[sql.Composable] = [
        _column(column, _not_null(table, column), how, identities.get(column.name))
        for column in table.columns
        if how.says(column.local)
    ]
    lines += [_constraint(each) for each in _inline_checks(table, how)]
    parts: list[sql.Composable] = [
        sql.SQL("CREATE {}TABLE {} ({})").format(
            # A partitioned table's persistence says nothing, and PostgreSQL 18 refuses it.
            sql.SQL("UNLOGGED " if table.persistence == "unlogged" and not _split(table) else ""),
            named(table),
            sql.SQL(", ").join(lines),
        ),
        *_table_clauses(table, tuple(inherits)),
    ]
    return sql.SQL(" ").join(parts)


def _table_clauses(
    table: Relation, inherits: tuple[QualifiedName, ...]
) -> Iterator[sql.Composable]:
    if inherits:
        parents = sql.SQL(", ").join(named(parent) for parent in inherits)
        yield sql.SQL("INHERITS ({})").format(parents)
    if table.partition_key:
        yield sql.SQL("PARTITION BY {}").format(sql.SQL(table.partition_key))
    if table.access_method not in (None, "heap"):
        yield sql.SQL("USING {}").format(sql.Identifier(table.access_method))


def _split(table: Relation) -> bool:
    return table.kind == "partitioned"


def _options(options: Mapping[str, str], prefix: str = "") -> list[sql.Composable]:
    return [
        sql.SQL(prefix + "{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in options.items()
    ]


def _identities(table: Relation, sequences: Iterable[Sequence]) -> dict[str, Sequence]:
    """A partition's identity is its root's, by PostgreSQL 17's rule: none of its own."""
    return {
        each.column: each
        for each in sequences
        if each.role == "identity" and str(each.table) == str(table)
        if not isinstance(table, Partition)
    }


def _inline_checks(table: Relation, how: Creation) -> Iterator[Constraint]:
    for each in table.constraints:
        if each.kind == "c" and each.validated and how.says(each.local):
            yield each


def _constraint(constraint: Constraint) -> sql.Composable:
    return sql.SQL("CONSTRAINT {} {}").format(
        sql.Identifier(constraint.name), sql.SQL(constraint.definition)
    )


def _not_null(table: Relation, column: Column) -> Constraint | None:
    """The column's not-null constraint, from PostgreSQL 18 on a constraint with a name."""
    for each in table.constraints:
        if each.kind == "n" and each.columns == (column.name,):
            return each
    return None


def _column(
    column: Column, not_null: Constraint | None, how: Creation, identity: Sequence | None
) -> sql.Composable:
    parts: list[sql.Composable] = [sql.Identifier(column.name), sql.SQL(column.type.text)]
    if column.collation:
        parts.append(sql.SQL("COLLATE {}").format(sql.SQL(column.collation)))
    if column.generated_as is not None:
        parts.append(
            sql.SQL("GENERATED ALWAYS AS ({}) {}").format(
                sql.SQL(column.generated_as), sql.SQL((column.generated or "stored").upper())
            )
        )
    elif identity is not None:
        parts.append(_identity(column, identity))
    elif column.default is not None:
        parts.append(sql.SQL("DEFAULT {}").format(sql.SQL(column.default)))
    parts += _column_not_null(column, not_null, how)
    return sql.SQL(" ").join(parts)


def _identity(column: Column, sequence: Sequence) -> sql.Composable:
    return sql.SQL("GENERATED {} AS IDENTITY (SEQUENCE NAME {} {})").format(
        sql.SQL((column.identity or "by default").upper()),
        named(sequence),
        _sequence_options(sequence),
    )


def _column_not_null(
    column: Column, constraint: Constraint | None, how: Creation
) -> Iterator[sql.Composable]:
    if constraint is None:
        if column.not_null:
            yield sql.SQL("NOT NULL")
    elif constraint.validated and how.says(constraint.local):
        # The column's form of the constraint, which servers before 18 understand too.
        yield sql.SQL("CONSTRAINT {} NOT NULL{}").format(
            sql.Identifier(constraint.name), sql.SQL(" NO INHERIT" if constraint.no_inherit else "")
        )


def saying_what_parents_say_late(table: Relation, parents: Iterable[Relation]) -> Relation:
    """Valid here, NOT VALID above: the child says it, for the parents' comes after the rows."""
    early = {(c.kind, c.name) for parent in parents for c in parent.constraints if c.validated}
    constraints = tuple(
        each
        if each.local or not each.validated or (each.kind, each.name) in early
        else each.model_copy(update={"local": True})
        for each in table.constraints
        if each.kind in ("c", "n")
    )
    return table.model_copy(update={"constraints": constraints})


def inherited_column_changes(
    table: Relation, parents: Iterable[Relation], sequences: Iterable[Sequence]
) -> Iterator[sql.Composable]:
    """What a child changed on columns that it inherits."""
    from_parents = [column for parent in parents for column in parent.columns]
    identities = _identities(table, sequences)
    for column in table.columns:
        above = [each for each in from_parents if each.name == column.name]
        alter = _alter_column(table, column)
        if column.default is None and any(each.default is not None for each in above):
            # The parent's default came along, also to a column that the child says itself.
            yield sql.SQL("{} DROP DEFAULT").format(alter)
        if column.local:
            continue
        if column.name in identities:
            yield sql.SQL("{} ADD {}").format(alter, _identity(column, identities[column.name]))
        elif column.default is not None:
            yield sql.SQL("{} SET DEFAULT {}").format(alter, sql.SQL(column.default))
        yield from _inherited_not_null(table, column, above)


def _inherited_not_null(
    table: Relation, column: Column, above: Iterable[Column]
) -> Iterator[sql.Composable]:
    constraint = _not_null(table, column)
    if constraint is None:
        if column.not_null and not any(each.not_null for each in above):
            yield sql.SQL("{} SET NOT NULL").format(_alter_column(table, column))
    elif constraint.local and constraint.validated:
        yield _add(table, constraint, only=True)


def _alter_column(table: Relation, column: Column) -> sql.Composable:
    return sql.SQL("ALTER TABLE ONLY {} ALTER COLUMN {}").format(
        named(table), sql.Identifier(column.name)
    )


def column_settings(table: Relation) -> Iterator[sql.Composable]:
    for column in table.columns:
        alter = _alter_column(table, column)
        if column.storage:
            yield sql.SQL("{} SET STORAGE {}").format(alter, sql.SQL(column.storage))
        if column.statistics_target is not None:
            target = sql.Literal(column.statistics_target)
            yield sql.SQL("{} SET STATISTICS {}").format(alter, target)


def preferences(table: Relation) -> Iterator[sql.Composable]:
    """Options that another server may not know: storage parameters, which versions and even minor
    releases add to, and LZ4, which is a build option. Without them the table holds the same rows.

    One statement for each option, so that an unknown one loses no other."""
    alter_table = sql.SQL("ALTER TABLE ONLY {}").format(named(table))
    for option in (*_options(table.options), *_options(table.toast_options, "toast.")):
        yield sql.SQL("{} SET ({})").format(alter_table, option)
    for column in table.columns:
        alter = _alter_column(table, column)
        for option in _options(column.options):
            yield sql.SQL("{} SET ({})").format(alter, option)
        if column.compression:
            yield sql.SQL("{} SET COMPRESSION {}").format(alter, sql.SQL(column.compression))


def type_of(table: Relation) -> Iterator[sql.Composable]:
    if table.of_type:
        yield sql.SQL("ALTER TABLE ONLY {} OF {}").format(named(table), sql.SQL(table.of_type))


def attach_partition(partition: Partition) -> sql.Composable:
    return sql.SQL("ALTER TABLE ONLY {} ATTACH PARTITION {} {}").format(
        named(partition.parent), named(partition), sql.SQL(partition.bound)
    )


def _add(table: Relation, constraint: Constraint, *, only: bool) -> sql.Composable:
    return sql.SQL("ALTER TABLE {}{} ADD {}").format(
        sql.SQL("ONLY " if only else ""), named(table), _constraint(constraint)
    )


def keys(table: Relation) -> Iterator[sql.Composable]:
    """Primary keys, unique and exclusion constraints: those that have an index."""
    for each in table.constraints:
        if each.kind in ("p", "u", "x"):
            yield _add(table, each, only=True)
            if each.index_options:
                # pg_get_constraintdef leaves the index's storage parameters out.
                yield sql.SQL("ALTER INDEX {} SET ({})").format(
                    sql.Identifier(table.schema_name, each.name),
                    sql.SQL(", ").join(_options(each.index_options)),
                )


def attach_keys(table: Relation) -> Iterator[sql.Composable]:
    for each in table.constraints:
        if each.attached_to:
            yield _attach_index(table, each.name, each.attached_to)


def late_constraints(table: Relation, how: Creation) -> Iterator[sql.Composable]:
    """Not ONLY: they reach partitions and children, as where they were made."""
    for each in table.constraints:
        if each.kind in ("c", "n") and not each.validated and how.adds(each.local):
            yield _add(table, each, only=False)


def foreign_keys(
    table: Relation, how: Creation
) -> Iterator[tuple[Constraint, QualifiedName, sql.Composable]]:
    for each in table.constraints:
        if each.references is not None and how.adds(each.local):
            yield each, each.references, _add(table, each, only=not _split(table))


def indexes(table: Relation) -> Iterator[sql.Composable]:
    for index in table.indexes:
        if not index.valid:
            continue
        yield sql.SQL(index.definition)
        for number, target in index.statistics_targets.items():
            yield sql.SQL("ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}").format(
                sql.Identifier(table.schema_name, index.name),
                sql.Literal(number),
                sql.Literal(target),
            )


def attach_indexes(table: Relation) -> Iterator[sql.Composable]:
    for index in table.indexes:
        if index.valid and index.attached_to:
            yield _attach_index(table, index.name, index.attached_to)


def _attach_index(table: Relation, name: str, parent: QualifiedName) -> sql.Composable:
    return sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
        named(parent), sql.Identifier(table.schema_name, name)
    )


def index_choices(table: Relation) -> Iterator[sql.Composable]:
    """What names an index or a way of logging, once the indexes are there."""
    alter = sql.SQL("ALTER TABLE ONLY {}").format(named(table))
    if table.clustered_on:
        yield sql.SQL("{} CLUSTER ON {}").format(alter, sql.Identifier(table.clustered_on))
    if table.replica_identity == "index" and table.replica_identity_index:
        index = sql.Identifier(table.replica_identity_index)
        yield sql.SQL("{} REPLICA IDENTITY USING INDEX {}").format(alter, index)
    elif table.replica_identity in ("full", "nothing"):
        identity = sql.SQL(table.replica_identity.upper())
        yield sql.SQL("{} REPLICA IDENTITY {}").format(alter, identity)


def statistics(table: Relation) -> Iterator[sql.Composable]:
    for each in table.statistics:
        yield sql.SQL(each.definition)
        if each.target is not None:
            yield sql.SQL("ALTER STATISTICS {} SET STATISTICS {}").format(
                named(each), sql.Literal(each.target)
            )
