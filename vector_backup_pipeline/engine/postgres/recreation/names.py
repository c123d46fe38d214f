"""Names of the backup's objects in the target: while they are created, and afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.recreation.extensions import extension_members
from vector_backup_pipeline.engine.relocation import Name, relocated
from vector_backup_pipeline.engine.table_definition import ExtensionDependency


class ScratchSchemas:
    """One scratch schema for each schema of the backup, so that app.docs and public.docs both fit.
    Without `scratch`, objects are created in their own schemas.

    The first of `schemas` gets exactly `scratch`, the others `scratch_2`, `scratch_3`, …
    """

    def __init__(self, scratch: str | None, schemas: Iterable[str]) -> None:
        self._scratch: dict[str, str] = {}
        for number, schema in enumerate(dict.fromkeys(schemas), 1):
            if scratch is not None:
                self._scratch[schema] = scratch if number == 1 else f"{scratch}_{number}"

    @property
    def created(self) -> set[str]:
        return set(self._scratch.values())

    def schema(self, original: str) -> str:
        return self._scratch.get(original, original)

    def name(self, original: Name) -> Name:
        return self.schema(original[0]), original[1]


class NameMap:
    """From the backup's names to the target's, where they differ. Grows while objects are created.
    Functions are kept apart, because a table may have the same name."""

    def __init__(self, existing: Mapping[Name, Name]) -> None:
        self._names: dict[Name, Name] = dict(existing)
        self._functions: dict[Name, Name] = {}

    def put(self, original: Name, name: Name) -> None:
        self._names[original] = name

    def put_members(self, cursor: Cursor, extension: ExtensionDependency, schema: str) -> None:
        """The target has `extension` in `schema`."""
        if schema == extension.schema_name:
            return
        for member, is_function in extension_members(cursor, extension.name):
            original, name = (extension.schema_name, member), (schema, member)
            # A type with a modifier, vector(3), looks like a call.
            self._functions[original] = name
            if not is_function:
                self._names[original] = name
            else:
                # A regproc holds a function's name without arguments; a relation goes first.
                self._names.setdefault(original, name)

    def find(self, original: Name) -> Name:
        return self._names.get(original, original)

    def relocated(self, statement: str) -> str:
        return relocated(statement, self._names, self._functions)
