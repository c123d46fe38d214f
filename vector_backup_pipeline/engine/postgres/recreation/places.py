"""Where the backup's names are in the target, as far as they are somewhere else."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.recreation.extensions import extension_members
from vector_backup_pipeline.engine.relocation import Name, relocated
from vector_backup_pipeline.engine.table_definition import ExtensionDependency


class Places:
    """A map that grows while things are made; functions apart, as they may share a table's name."""

    def __init__(self, existing: Mapping[Name, Name]) -> None:
        self._names: dict[Name, Name] = dict(existing)
        self._functions: dict[Name, Name] = {}

    def put(self, original: Name, place: Name) -> None:
        self._names[original] = place

    def put_members(self, cursor: Cursor, extension: ExtensionDependency, schema: str) -> None:
        """The target has `extension` in `schema`."""
        if schema == extension.schema_name:
            return
        for member, is_function in extension_members(cursor, extension.name):
            original, place = (extension.schema_name, member), (schema, member)
            # A type with a modifier, vector(3), looks like a call.
            self._functions[original] = place
            if not is_function:
                self._names[original] = place
            else:
                # As a name without arguments, in a regproc; a relation of that name goes first.
                self._names.setdefault(original, place)

    def find(self, original: Name) -> Name:
        return self._names.get(original, original)

    def relocated(self, statement: str) -> str:
        return relocated(statement, self._names, self._functions)
