"""Names of the backup's objects in the target: while they are created, and afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.recreation.target_objects import extension_members
from vector_backup_pipeline.engine.sql_tokens import Name, relocated
from vector_backup_pipeline.engine.table_definition import Dependency, TableDefinition


@dataclass(frozen=True)
class NewTable:
    """A table to create. `schema` and `name` may differ from the definition's: it is renamed."""

    definition: TableDefinition
    schema: str
    name: str

    @property
    def original(self) -> Name:
        return self.definition.qualified_name

    @property
    def final(self) -> Name:
        return self.schema, self.name

    @property
    def is_renamed(self) -> bool:
        return self.final != self.original


class StagingSchemas:
    """One staging schema for each schema of the backup, so that app.docs and public.docs both fit.
    Without `staging`, objects are created in their own schemas.

    The first of `schemas` gets exactly `staging`, the others `staging_2`, `staging_3`, …
    """

    def __init__(self, staging: str | None, schemas: Iterable[str]) -> None:
        self._staging: dict[str, str] = {}
        if staging is not None:
            for number, schema in enumerate(dict.fromkeys(schemas), 1):
                self._staging[schema] = staging if number == 1 else f"{staging}_{number}"

    @property
    def all(self) -> set[str]:
        return set(self._staging.values())

    def schema(self, original: str) -> str:
        return self._staging.get(original, original)

    def name(self, original: Name) -> Name:
        return self.schema(original[0]), original[1]


class NameMap:
    """From the backup's names to the target's, where they differ. It grows while objects are
    created. Functions are kept apart, because a table may have the same name."""

    def __init__(self, existing: Mapping[Name, Name]) -> None:
        self._names: dict[Name, Name] = dict(existing)
        self._functions: dict[Name, Name] = {}

    def put(self, original: Name, name: Name) -> None:
        self._names[original] = name

    def put_members(self, cursor: Cursor, extension: Dependency, schema: str) -> None:
        """The target has `extension` in `schema`."""
        if schema == extension.schema_name:
            return
        for member, is_function in extension_members(cursor, extension.name):
            original, name = (extension.schema_name, member), (schema, member)
            # A type with a modifier, vector(3), looks like a call.
            self._functions[original] = name
            if is_function:
                # A regproc is a function's name without arguments; a relation goes first.
                self._names.setdefault(original, name)
            else:
                self._names[original] = name

    def find(self, original: Name) -> Name:
        return self._names.get(original, original)

    def relocated(self, statement: str) -> str:
        return relocated(statement, self._names, self._functions)
