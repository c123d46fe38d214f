"""Creates the tables that a target lacks.

    check ─▶ create ─▶ (rows) ─▶ build ─▶ finish ─▶ publish

Each step takes a cursor and may be on a connection of its own, after the step before is committed.
With a staging schema, nothing is visible before `publish`. Nothing here commits.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine import table_definition
from vector_backup_pipeline.engine.errors import DatabaseRefused, InvalidParams
from vector_backup_pipeline.engine.postgres.index_rebuild import BeforeIndex
from vector_backup_pipeline.engine.postgres.recreation import target_objects
from vector_backup_pipeline.engine.postgres.recreation.names import (
    Move,
    NameMap,
    NewTable,
    make_moves,
    moves_of_tables,
    staging_schemas,
)
from vector_backup_pipeline.engine.postgres.session import savepoint
from vector_backup_pipeline.engine.postgres.targets import (
    known_value,
    move_sequence_forward,
)
from vector_backup_pipeline.engine.sql_tokens import Name
from vector_backup_pipeline.engine.table_definition import (
    Dependency,
    ForeignKey,
    Kind,
    ObjectAddress,
    Statement,
)

_CREATE = (Kind.TABLE, Kind.COLUMN, Kind.PARTITION, Kind.SEQUENCE_OWNER)
_AFTER_INDEXES = (
    *(Kind.INDEX_SETTING, Kind.INDEX_PARTITION, Kind.INDEX_CHOICE),
    *(Kind.STATISTICS, Kind.STATISTICS_TARGET),
)

_FIND = "SELECT FROM pg_catalog.pg_get_object_address(%s, %s::text[], %s::text[])"
# pg_get_object_address takes no operator with one argument.
_FIND_PREFIX_OPERATOR = "SELECT pg_catalog.format('%%I.%%s(NONE,%%s)', %s, %s, %s)::regoperator"
_NOT_FOUND = (
    psycopg2.errors.InvalidSchemaName,
    psycopg2.errors.UndefinedFunction,
    psycopg2.errors.UndefinedObject,
)


class Recreation:
    """One restore's new tables.

    `existing` are the backup's tables that the target has already: the backup's name, and the name
    there. `staging` is the staging schema's name, or None: then everything is created in its own
    schema, and no table may be renamed. Extensions and types are always created in their own
    schemas: other sessions use them as soon as they are committed.
    """

    def __init__(
        self,
        tables: Sequence[NewTable],
        existing: Mapping[Name, Name],
        dependencies: Iterable[Dependency],
        staging: str | None,
    ) -> None:
        if staging is None and any(table.is_renamed for table in tables):
            raise ValueError("A renamed table is created in a staging schema.")
        self._tables = list(tables)
        needed = {key for table in tables for key in table.definition.needs}
        self._dependencies = [dependency for dependency in dependencies if dependency.key in needed]
        self._extensions = [
            dependency for dependency in self._dependencies if dependency.kind == "extension"
        ]
        self._existing = dict(existing)
        self._staging = staging
        self._sequences = [sequence for table in tables for sequence in table.definition.sequences]
        names = [*self._own_names(), *(sequence.qualified_name for sequence in self._sequences)]
        self._staging_schemas = (
            staging_schemas(staging, [schema for schema, _ in names]) if staging else {}
        )
        self._name_map = NameMap(existing)
        # Sequences that no new table owns: those of the target are used, the others are created.
        self._shared_existing: set[Name] = set()
        self._shared_created: set[Name] = set()
        self._shared_values: list[tuple[NewTable, table_definition.Sequence, int, bool]] = []
        self._lost: dict[str, list[str]] = defaultdict(list)

    def check(self, cursor: Cursor) -> None:
        """Check that the target can accept these tables, before anything is created.

        Raises:
            InvalidParams: a table can't be created without another one.
            DatabaseRefused: the backup has no complete definition of a table, an extension is not
                available, or the target lacks an object that the backup does not contain.
        """
        for table in self._tables:
            _check_definition(table)
        states = target_objects.extension_states(cursor, self._extensions)
        for name, state in states.items():
            target_objects.check_available(name, state)
        installed = [name for name, state in states.items() if state.installed]
        self._check_required(cursor, [None, *installed])

    def missing_dependencies(self, cursor: Cursor) -> list[str]:
        """The extensions and types that `create` will create. Other sessions would see them before
        `publish` if they were committed."""
        return [f"{dependency.kind} {dependency.key}" for dependency in self._missing(cursor)]

    def create(self, cursor: Cursor) -> None:
        """Create the tables, empty and without keys, and what they need first."""
        missing = self._missing(cursor)
        self._find_shared_sequences(cursor)
        self._create_schemas(cursor, {dependency.schema_name for dependency in missing})
        extensions = [dependency for dependency in missing if dependency.kind == "extension"]
        for extension in extensions:
            target_objects.create_extension(cursor, extension.name, extension.schema_name)
        self._check_required(cursor, [extension.name for extension in extensions])
        for dependency in missing:
            for statement in dependency.ddl:
                cursor.execute(self._name_map.relocated(statement.sql))
        names = [*self._own_names(), *self._shared_created]
        for schema, name in names:
            created = self._staging_schemas.get(schema, schema), name
            self._name_map.put((schema, name), created)
        self._create_schemas(cursor, {self._name_map.find(name)[0] for name in names})
        self._run(cursor, Kind.SEQUENCE)
        self._run(cursor, *_CREATE)
        for table in self._tables:
            for statement in table.definition.statements(Kind.SETTING):
                self._set(cursor, table, statement)

    def loading_name(self, table: NewTable) -> Name:
        """The name under which its rows are loaded, between `create` and `publish`."""
        return self._name_map.find(table.original)

    def build(self, cursor: Cursor, before_index: BeforeIndex) -> None:
        """Create keys and indexes over the rows.

        `before_index` is called before each index that no constraint owns is built.
        """
        self._run(cursor, Kind.KEY)
        for table in self._tables:
            for index in table.definition.indexes:
                if index.has_rows:
                    before_index(index)
                cursor.execute(self._name_map.relocated(index.sql))
        self._run(cursor, *_AFTER_INDEXES)

    def finish(self, cursor: Cursor) -> None:
        """Create constraints over the rows and set the sequences of the new tables."""
        self._run(cursor, Kind.CONSTRAINT)
        for _, key in self._foreign_keys(to_new_tables=True):
            cursor.execute(self._name_map.relocated(key.sql))
        self._set_sequence_values(cursor)

    def publish(self, cursor: Cursor) -> None:
        """Connect the new tables with existing ones, and move everything to its final name."""
        self._create_foreign_keys_to_existing(cursor)
        # Last, because FORCE would filter the rows that the checks of foreign keys read.
        self._run(cursor, Kind.POLICY, Kind.ROW_SECURITY)
        self._run(cursor, Kind.COMMENT)
        if self._staging is not None:
            moves = [Move("SEQUENCE", name, name) for name in sorted(self._shared_created)]
            moves += moves_of_tables(cursor, self._tables)
            self._create_schemas(cursor, {move.final[0] for move in moves})
            make_moves(cursor, moves, self._name_map, self._staging)
            # Not CASCADE: it fails if anything were left behind.
            left = target_objects.existing_schemas(cursor, self._staging_schemas.values())
            for name in sorted(left):
                cursor.execute(SQL("DROP SCHEMA {} RESTRICT").format(Identifier(name)))
        self._move_shared_sequences(cursor)

    def not_recreated(self, role: str) -> Mapping[str, list[str]]:
        """By the backup's `schema.name`: what the manifest names, and what could not be created by
        `role`, which owns the new tables."""
        return {
            str(table.definition): [
                *([f"owner {table.definition.owner}"] if table.definition.owner != role else []),
                *map(str, table.definition.omissions),
                *(
                    str(address)
                    for address in table.definition.requires
                    if address.extension is None and address.kind != "role"
                ),
                *self._lost[str(table.definition)],
            ]
            for table in self._tables
        }

    # Required and existing objects

    def _check_required(self, cursor: Cursor, extensions: Collection[str | None]) -> None:
        """Check that the target has the members of these extensions that the tables use; None
        stands for other objects, which no backup contains. Adds the members' names to the map."""
        states = target_objects.extension_states(cursor, self._extensions)
        for extension in self._extensions:
            if (schema := states[extension.name].schema) is not None:
                self._name_map.put_members(cursor, extension, schema)
        required = (address for table in self._tables for address in table.definition.requires)
        missing = [
            address
            for address in dict.fromkeys(required)
            if address.extension in extensions and not self._exists(cursor, address)
        ]
        for address in missing:
            if (name := address.extension) is not None:
                raise target_objects.ExtensionUnavailable(
                    f"The target has version {states[name].installed} of the extension {name}, "
                    f"which lacks the {address} that the backup's tables use. Update the extension "
                    f"(install a newer package and run ALTER EXTENSION {name} UPDATE), then "
                    "restore again."
                )
        if missing:
            raise DatabaseRefused(
                "The target lacks objects that the backup's tables use: "
                f"{', '.join(map(str, missing))}. A backup does not contain their definitions. "
                "Create them first, then restore again; pg_dump --schema-only and pg_dumpall "
                "--roles-only print them from the source."
            )

    def _exists(self, cursor: Cursor, address: ObjectAddress) -> bool:
        arguments = [self._name_map.relocated(argument) for argument in address.arguments]
        # A type's address is its name in SQL; any other ends in schema and name.
        names = list(address.names)
        if address.kind == "type":
            names = [self._name_map.relocated(names[0])]
        elif len(names) > 1:
            names[-2:] = self._name_map.find((names[-2], names[-1]))
        try:
            with savepoint(cursor):
                if address.kind == "operator" and len(arguments) == 1:
                    cursor.execute(_FIND_PREFIX_OPERATOR, (*names, *arguments))
                else:
                    cursor.execute(_FIND, (address.kind, names, arguments))
        except _NOT_FOUND:
            return False
        return True

    def _missing(self, cursor: Cursor) -> list[Dependency]:
        """The dependencies that the target lacks, in creation order."""
        states = target_objects.extension_states(cursor, self._extensions)
        existing = {name for name, state in states.items() if state.installed}
        types = {
            dependency.qualified_name
            for dependency in self._dependencies
            if dependency.kind == "type"
        }
        existing |= {".".join(name) for name in target_objects.existing_types(cursor, types)}
        return [dependency for dependency in self._dependencies if dependency.key not in existing]

    def _own_names(self) -> Iterator[Name]:
        """Everything that belongs to the new tables and has a name in a schema, a table first."""
        for table in self._tables:
            yield from (
                statement.qualified_name
                for statement in table.definition.created
                if statement.kind is not Kind.SEQUENCE
            )
        yield from self._owned_sequences()

    def _owned_sequences(self) -> list[Name]:
        owned = (
            sequence.qualified_name for sequence in self._sequences if sequence.role != "shared"
        )
        return list(dict.fromkeys(owned))

    def _find_shared_sequences(self, cursor: Cursor) -> None:
        owned = self._owned_sequences()
        shared = {sequence.qualified_name for sequence in self._sequences}.difference(owned)
        self._shared_existing = target_objects.existing_sequences(cursor, shared)
        self._shared_created = shared - self._shared_existing
        if self._staging is None:
            for schema, name in target_objects.existing_sequences(cursor, owned):
                raise DatabaseRefused(
                    f"The target already has a sequence {schema}.{name}, and a table of the backup "
                    "owns one of that name. Drop or rename the existing one, or restore the table "
                    "under another name with rename."
                )

    def _foreign_keys(self, *, to_new_tables: bool) -> Iterator[tuple[NewTable, ForeignKey]]:
        new = set(self._own_names())
        for table in self._tables:
            for key in table.definition.foreign_keys:
                if (key.references.qualified_name in new) == to_new_tables:
                    yield table, key

    # Creating

    def _run(self, cursor: Cursor, *kinds: Kind) -> None:
        """Statements of these kinds over all tables, except those about the target's sequences;
        once, since several tables may use one sequence."""
        for statement in dict.fromkeys(
            statement for table in self._tables for statement in table.definition.statements(*kinds)
        ):
            if statement.qualified_name not in self._shared_existing:
                cursor.execute(self._name_map.relocated(statement.sql))

    def _create_schemas(self, cursor: Cursor, names: set[str]) -> None:
        # IF NOT EXISTS would ask for the right to create schemas also where they exist.
        for name in sorted(names - target_objects.existing_schemas(cursor, names)):
            cursor.execute(SQL("CREATE SCHEMA {}").format(Identifier(name)))

    def _set(self, cursor: Cursor, table: NewTable, setting: Statement) -> None:
        try:
            with savepoint(cursor):
                cursor.execute(self._name_map.relocated(setting.sql))
        except (psycopg2.NotSupportedError, psycopg2.ProgrammingError, psycopg2.DataError) as error:
            reason = error.diag.message_primary or type(error).__name__
            self._lost[str(table.definition)].append(f"{setting.sql} ({reason})")

    # Finishing

    def _set_sequence_values(self, cursor: Cursor) -> None:
        """Values that the backup does not have are taken from the rows."""
        for table in self._tables:
            for sequence in table.definition.sequences:
                owner = self._name_map.find(sequence.table.qualified_name)
                last_value, is_called = known_value(cursor, owner, sequence)
                if last_value is None:
                    continue
                if sequence.qualified_name in self._shared_existing:
                    self._shared_values.append((table, sequence, last_value, is_called))
                    continue
                name = self._name_map.find(sequence.qualified_name)
                if sequence.last_value is None:
                    move_sequence_forward(cursor, name, last_value, is_called=is_called)
                else:
                    cursor.execute(
                        "SELECT pg_catalog.setval(%s::regclass, %s, %s)",
                        (Identifier(*name).as_string(cursor), last_value, is_called),
                    )

    def _move_shared_sequences(self, cursor: Cursor) -> None:
        """Last, because no rollback undoes it; and forward only, because others use them."""
        for table, sequence, last_value, is_called in self._shared_values:
            name = sequence.qualified_name
            if not move_sequence_forward(cursor, name, last_value, is_called=is_called):
                self._lost[str(table.definition)].append(
                    f"value of sequence {sequence}, which the role may not set"
                )

    def _create_foreign_keys_to_existing(self, cursor: Cursor) -> None:
        for table, key in self._foreign_keys(to_new_tables=False):
            references = key.references.qualified_name
            lost = f"foreign key {key.name} to {key.references}, which is not restored with it"
            # A copy that refers to tables of the running system would be changed by them.
            if table.is_renamed and references not in self._existing:
                self._lost[str(table.definition)].append(lost)
            elif target_objects.existing_tables(cursor, {self._name_map.find(references)}):
                cursor.execute(self._name_map.relocated(key.sql))
            else:
                self._lost[str(table.definition)].append(f"{lost} and does not exist in the target")


def _check_definition(table: NewTable) -> None:
    definition = table.definition
    if definition.created_with is not None:
        raise InvalidParams(
            f"{definition} is a partition that the backup creates together with "
            f"{definition.created_with}: alone it has no definition. Restore "
            f"{definition.created_with}, which contains its rows too, or create {definition} first."
        )
    for omission in definition.omissions:
        if omission.prevents_creation:
            raise DatabaseRefused(
                f"{definition} cannot be created from this backup: it would lack {omission}. "
                "Create the table with it first, then restore the rows into it."
            )
