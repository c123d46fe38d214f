"""The tables that a target lacks, made in the order of `table_definition`.

    check ─▶ create ─▶ (rows) ─▶ build ─▶ finish ─▶ publish

Each step takes a cursor and may be on a connection of its own, after the step before is committed;
all but `publish` happen where nobody looks, if there is a scratch schema. Nothing here commits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine import table_definition
from vector_backup_pipeline.engine.postgres.recreation.checks import (
    check_makers,
    check_parents,
    check_policies,
    parents_elsewhere,
)
from vector_backup_pipeline.engine.postgres.recreation.extensions import check_extensions
from vector_backup_pipeline.engine.postgres.recreation.external_objects import (
    check_external_objects,
)
from vector_backup_pipeline.engine.postgres.recreation.index_options import without_options
from vector_backup_pipeline.engine.postgres.recreation.lookups import (
    schemas_there,
    sequences_there,
    tables_there,
)
from vector_backup_pipeline.engine.postgres.recreation.moves import (
    Move,
    make_moves,
    moves_of_prerequisites,
    moves_of_sequences,
    moves_of_tables,
)
from vector_backup_pipeline.engine.postgres.recreation.names import NameMap, ScratchSchemas
from vector_backup_pipeline.engine.postgres.recreation.prerequisites import (
    Missing,
    extensions_of,
    make_prerequisite,
    map_installed_extensions,
    missing_prerequisites,
    needed_prerequisites,
)
from vector_backup_pipeline.engine.postgres.recreation.sequences import (
    check_not_taken,
    made_first,
    owned_sequences,
    set_value,
    shared_sequences,
)
from vector_backup_pipeline.engine.postgres.recreation.tables import (
    NewTable,
    in_creation_order,
    index_names,
    name_of,
    relations_of,
)
from vector_backup_pipeline.engine.postgres.targets import (
    last_value_in_column,
    move_sequence_forward,
)
from vector_backup_pipeline.engine.relocation import Name
from vector_backup_pipeline.engine.table_definition import (
    Dependencies,
    ForeignKey,
    Index,
    TableDefinition,
)

BeforeIndex = Callable[[Name, Index], None]
Statements = Callable[[TableDefinition], Iterable[str]]

_CREATE_SCHEMA = SQL("CREATE SCHEMA {}")
_SAVEPOINT = "SAVEPOINT vector_backup_preference"
_UNDO = "ROLLBACK TO SAVEPOINT vector_backup_preference; RELEASE SAVEPOINT vector_backup_preference"


class Recreation:
    """One restore's new tables.

    `existing` are the backup's tables that the target has already: the backup's name, and the name
    there. `scratch` is the scratch schema's name, or None: then everything is created in its own
    schema, and no table may be renamed.
    """

    def __init__(
        self,
        tables: Sequence[NewTable],
        existing: Mapping[Name, Name],
        dependencies: Dependencies,
        scratch: str | None,
    ) -> None:
        if scratch is None and any(table.is_renamed for table in tables):
            raise ValueError("A renamed table is created in a scratch schema.")
        self._tables = in_creation_order(tables)
        self._asked = list(tables)
        self._new = {name_of(relation) for relation in relations_of(tables)}
        self._existing = dict(existing)
        self._needed = needed_prerequisites(dependencies, tables)
        self._scratch = scratch
        self._scratch_schemas = ScratchSchemas(scratch, self._schemas())
        self._name_map = NameMap(existing)
        # What `create` found and made; the later steps go by it.
        self._created: list[Missing] = []
        self._scratch_made: set[str] = set()
        self._shared_created: set[Name] = set()
        self._shared_there: set[Name] = set()
        self._shared_values: list[tuple[NewTable, table_definition.Sequence, int]] = []
        self._lost: dict[str, list[str]] = defaultdict(list)

    def check(self, cursor: Cursor) -> None:
        """Look whether the target can take these tables, before anything is made.

        Raises:
            InvalidParams: a table can't be made without another one.
            DatabaseRefused: an extension is not to be had or too old, a policy can't be made, or
                the target lacks an object that the backup only names, such as a function.
        """
        check_makers(self._asked)
        check_parents(cursor, self._tables, self._existing)
        check_extensions(cursor, self._needed, self._tables)
        check_policies(cursor, self._tables)
        self._check_external_objects(cursor)

    def missing_extensions(self, cursor: Cursor) -> list[str]:
        """The extensions that `create` will make."""
        missing = missing_prerequisites(cursor, self._needed)
        return [extension.name for extension in extensions_of(each.what for each in missing)]

    def can_be_created_elsewhere(self, cursor: Cursor) -> bool:
        """Whether all that is missing may be committed before `publish`, in a scratch schema.

        An extension may not: its name is the whole database's, and others may use it at once. A
        table that inherits from one that is there would be seen through it.
        """
        missing = missing_prerequisites(cursor, self._needed)
        return all(each.is_movable for each in missing) and not any(parents_elsewhere(self._tables))

    def create(self, cursor: Cursor) -> None:
        """Make the tables, empty and without keys, and what they need first.

        What can't be moved later is made in its own place, also when there is a scratch schema.
        """
        missing = missing_prerequisites(cursor, self._needed)
        map_installed_extensions(cursor, self._needed, self._name_map)
        self._sort_sequences(cursor)
        self._create_first_schemas(cursor, missing)
        for each in missing:
            make_prerequisite(cursor, each.what, self._first_schema(each), self._name_map)
        self._created = [each for each in missing if each.is_movable]
        self._place_relations()
        self._make_sequences(cursor)
        self._run(cursor, lambda table: table.ddl)
        for table in self._tables:
            for statement in table.definition.preference_ddl:
                self._prefer(cursor, table, statement)

    def loading_name(self, table: NewTable) -> Name:
        """Where its rows are loaded, between `create` and `publish`."""
        return self._scratch_schemas.name(table.original)

    def build(self, cursor: Cursor, before_index: BeforeIndex) -> None:
        """Make keys and indexes over the rows.

        `before_index` is told the place of the table or partition, and the index, before each
        index that no constraint owns is built.
        """
        self._run(cursor, lambda table: table.key_ddl)
        for table in self._tables:
            built = _indexes_with_rows(table)
            for statement in table.definition.index_ddl:
                if statement in built:
                    relation, index = built[statement]
                    before_index(self._scratch_schemas.name(relation), index)
                self._run_index_statement(cursor, table, statement)

    def finish(self, cursor: Cursor) -> None:
        """Make what comes when the rows are there, as far as it concerns the new tables alone."""
        self._run(cursor, lambda table: table.late_constraint_ddl)
        self._run(cursor, lambda table: (k.ddl for k in table.foreign_keys if self._is_new(k)))
        self._set_values(cursor)

    def publish(self, cursor: Cursor) -> None:
        """Tie the new tables to those that are there, and move all of it into place."""
        self._tie_to_existing(cursor)
        # Last, because FORCE would filter the rows that the checks of foreign keys read.
        self._run(cursor, lambda table: table.row_security_ddl)
        self._run(cursor, lambda table: table.comment_ddl)
        self._run(cursor, self._sequence_comments)
        if self._scratch is not None:
            moves = self._moves(cursor)
            self._make_schemas(cursor, {move.final[0] for move in moves})
            make_moves(cursor, moves, self._scratch_schemas, self._scratch)
            self._drop_scratch_schemas(cursor)
        self._move_shared_sequences(cursor)

    def not_recreated(self, role: str) -> Mapping[str, list[str]]:
        """By the backup's `schema.name`: what the manifest names, and what could not be created by
        `role`, which owns the new tables."""
        return {
            str(table.definition): [
                *_other_owners(table.definition, role),
                *table.definition.not_recreated,
                *self._lost[str(table.definition)],
            ]
            for table in self._asked
        }

    def _check_external_objects(self, cursor: Cursor) -> None:
        name_map = NameMap(self._existing)
        map_installed_extensions(cursor, self._needed, name_map)
        missing = [each.what for each in missing_prerequisites(cursor, self._needed)]
        check_external_objects(cursor, self._tables, missing, name_map)

    # What is where

    def _schemas(self) -> Iterator[str]:
        """Every schema that something may be created for, the tables' own first."""
        yield from (table.original[0] for table in self._asked)
        for relation in relations_of(self._tables):
            yield relation.schema_name
            yield from (each.schema_name for each in relation.statistics)
        for table in self._tables:
            yield from (each.schema_name for each in table.definition.sequences)
        yield from (each.schema_name for each in self._needed)

    def _names(self) -> Iterator[Name]:
        """Everything that belongs to the new tables and has a name in a schema."""
        for relation in relations_of(self._tables):
            yield name_of(relation)
            yield from ((relation.schema_name, name) for name in index_names(relation))
            yield from map(name_of, relation.statistics)
        yield from owned_sequences(self._tables)
        yield from self._shared_created

    def _first_schema(self, missing: Missing) -> str:
        schema = missing.what.schema_name
        return self._scratch_schemas.schema(schema) if missing.is_movable else schema

    def _place_relations(self) -> None:
        for name in self._names():
            self._name_map.put(name, self._scratch_schemas.name(name))

    # Making

    def _run(self, cursor: Cursor, statements: Statements) -> None:
        """One kind of statements, over all tables."""
        for table in self._tables:
            for statement in statements(table.definition):
                cursor.execute(self._name_map.relocated(statement))

    def _create_first_schemas(self, cursor: Cursor, missing: Sequence[Missing]) -> None:
        needed = {self._first_schema(each) for each in missing}
        needed |= {self._scratch_schemas.schema(schema) for schema, _ in self._names()}
        self._make_schemas(cursor, needed)
        self._scratch_made = needed & self._scratch_schemas.created

    def _make_schemas(self, cursor: Cursor, names: set[str]) -> None:
        # IF NOT EXISTS would ask for the right to make schemas also where they are.
        for name in sorted(names - schemas_there(cursor, names)):
            cursor.execute(_CREATE_SCHEMA.format(Identifier(name)))

    def _drop_scratch_schemas(self, cursor: Cursor) -> None:
        """Not CASCADE: it fails if anything were left behind."""
        for name in sorted(self._scratch_made):
            cursor.execute(SQL("DROP SCHEMA {} RESTRICT").format(Identifier(name)))

    def _sort_sequences(self, cursor: Cursor) -> None:
        shared = shared_sequences(self._tables)
        self._shared_there = sequences_there(cursor, shared)
        self._shared_created = shared - self._shared_there
        if self._scratch is None:
            check_not_taken(cursor, self._tables)

    def _make_sequences(self, cursor: Cursor) -> None:
        for table in self._tables:
            for sequence, statement in made_first(table):
                if name_of(sequence) not in self._shared_there:
                    cursor.execute(self._name_map.relocated(statement))

    def _prefer(self, cursor: Cursor, table: NewTable, statement: str) -> None:
        cursor.execute(_SAVEPOINT)
        try:
            cursor.execute(self._name_map.relocated(statement))
        except (psycopg2.NotSupportedError, psycopg2.ProgrammingError, psycopg2.DataError) as error:
            cursor.execute(_UNDO)
            reason = error.diag.message_primary or type(error).__name__
            self._lost[str(table.definition)].append(f"{statement} ({reason})")
        else:
            cursor.execute("RELEASE SAVEPOINT vector_backup_preference")

    def _run_index_statement(self, cursor: Cursor, table: NewTable, statement: str) -> None:
        """An index whose storage parameters the server does not take is built without them."""
        plain = without_options(statement)
        if plain == statement:
            cursor.execute(self._name_map.relocated(statement))
            return
        cursor.execute(_SAVEPOINT)
        try:
            cursor.execute(self._name_map.relocated(statement))
        except psycopg2.errors.InvalidParameterValue as error:
            cursor.execute(_UNDO)
            cursor.execute(self._name_map.relocated(plain))
            self._lost[str(table.definition)].append(
                f"storage parameters of {statement} ({error.diag.message_primary})"
            )
        else:
            cursor.execute("RELEASE SAVEPOINT vector_backup_preference")

    # Finishing

    def _set_values(self, cursor: Cursor) -> None:
        """Values that the backup does not hold are taken from the rows."""
        for table in self._tables:
            for sequence in table.definition.sequences:
                name, last_value = name_of(sequence), sequence.last_value
                if last_value is None:
                    place = self._scratch_schemas.name(name_of(sequence.table))
                    last_value = last_value_in_column(cursor, place, sequence)
                if last_value is None:
                    continue
                if name in self._shared_there:
                    self._shared_values.append((table, sequence, last_value))
                elif sequence.last_value is None:
                    place = self._scratch_schemas.name(name)
                    move_sequence_forward(cursor, place, last_value, is_called=True)
                else:
                    set_value(cursor, self._scratch_schemas.name(name), sequence)

    def _move_shared_sequences(self, cursor: Cursor) -> None:
        """Last, because no rollback undoes it; and forward only, because others use them."""
        for table, sequence, last_value in self._shared_values:
            if not move_sequence_forward(
                cursor, name_of(sequence), last_value, is_called=sequence.is_called is not False
            ):
                self._lost[str(table.definition)].append(
                    f"value of sequence {sequence}, which the role may not set"
                )

    def _sequence_comments(self, table: TableDefinition) -> Iterator[str]:
        """A shared sequence that the target has keeps its own comment."""
        for comment in table.sequence_comments:
            if name_of(comment) not in self._shared_there:
                yield comment.ddl

    def _is_new(self, key: ForeignKey) -> bool:
        return name_of(key.references) in self._new

    # Publishing

    def _tie_to_existing(self, cursor: Cursor) -> None:
        for table in self._tables:
            for key in table.definition.foreign_keys:
                if self._is_new(key):
                    continue
                # A copy that is tied to tables of the running system is changed by them.
                if table.is_renamed and name_of(key.references) not in self._existing:
                    self._lost[str(table.definition)].append(
                        f"foreign key {key.name} to {key.references}, which is not restored along"
                    )
                elif tables_there(cursor, {self._name_map.find(name_of(key.references))}):
                    cursor.execute(self._name_map.relocated(key.ddl))
                else:
                    self._lost[str(table.definition)].append(
                        f"foreign key {key.name} to {key.references}, which is neither restored "
                        "along nor in the target"
                    )

    def _moves(self, cursor: Cursor) -> list[Move]:
        return [
            *moves_of_prerequisites(self._created),
            *moves_of_sequences(self._shared_created),
            *moves_of_tables(cursor, self._asked),
        ]


def _other_owners(table: TableDefinition, role: str) -> Iterator[str]:
    if table.owner != role:
        yield f"owner {table.owner}"
    for partition in table.partitions:
        if partition.owner not in (role, table.owner):
            yield f"partition {partition}: owner {partition.owner}"


def _indexes_with_rows(table: NewTable) -> dict[str, tuple[Name, Index]]:
    """By their statements, those that read rows: a partitioned table's own has none."""
    return {
        index.definition: (name_of(relation), index)
        for relation in table.relations
        if relation.kind != "partitioned"
        for index in relation.indexes
        if index.valid
    }
