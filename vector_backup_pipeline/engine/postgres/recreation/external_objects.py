"""Objects that a backup names but does not hold: the target must have them already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.names import NameMap
from vector_backup_pipeline.engine.postgres.recreation.tables import (
    NewTable,
    name_of,
    names_used,
    relations_of,
)
from vector_backup_pipeline.engine.relocation import Name, names_in
from vector_backup_pipeline.engine.table_definition import AnyDependency, ExternalObject

_FIND = "SELECT FROM pg_catalog.pg_get_object_address(%s, %s::text[], %s::text[])"
# pg_get_object_address takes no operator with one argument. This one raises an error as well if
# nothing is found.
_FIND_UNARY = """
SELECT 1 / count(*)
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
 WHERE n.nspname::text = %s AND o.oprname::text = %s
   AND %s::regtype IN (o.oprleft, o.oprright) AND 0 IN (o.oprleft, o.oprright)
"""
_NOT_FOUND = (
    psycopg2.errors.DivisionByZero,
    psycopg2.errors.InvalidSchemaName,
    psycopg2.errors.UndefinedFunction,
    psycopg2.errors.UndefinedObject,
)


def check_external_objects(
    cursor: Cursor, tables: Sequence[NewTable], missing: Sequence[AnyDependency], name_map: NameMap
) -> None:
    """Check that the target has what the statements of `tables`, and of their `missing`
    prerequisites, use.

    Raises:
        DatabaseRefused: objects are missing.
    """
    used = set(names_used(missing, tables))
    # A table's row type is created with the table.
    created = {name_of(relation) for relation in relations_of(tables)}
    access_methods = set(_access_methods(tables))

    def is_needed(each: ExternalObject) -> bool:
        if each.kind == "access method":
            return each.names[-1] in access_methods
        name = _name(each)
        return name in used and not (each.kind == "type" and name in created)

    needed = dict.fromkeys(
        each for table in tables for each in table.definition.external_objects if is_needed(each)
    )
    absent = [str(each) for each in needed if not _exists(cursor, each, name_map)]
    if absent:
        raise DatabaseRefused(
            f"The target lacks objects that the backup's tables use: {', '.join(absent)}. A backup "
            "does not hold their definitions. Create them first, then restore again; pg_dump "
            "--schema-only prints the definitions from the source database."
        )


def _access_methods(tables: Sequence[NewTable]) -> Iterator[str]:
    for relation in relations_of(tables):
        if relation.access_method is not None:
            yield relation.access_method
        yield from (index.access_method for index in relation.indexes if index.valid)


def _name(each: ExternalObject) -> Name | None:
    if each.kind == "type":
        return next(names_in(each.names[0]), None)
    return (each.names[-2], each.names[-1]) if len(each.names) > 1 else None


def _exists(cursor: Cursor, each: ExternalObject, name_map: NameMap) -> bool:
    names = each.names
    if each.kind == "type":
        names = tuple(map(name_map.relocated, names))
    arguments = tuple(map(name_map.relocated, each.arguments))
    cursor.execute("SAVEPOINT external_object")
    try:
        if each.kind == "operator" and len(arguments) == 1:
            cursor.execute(_FIND_UNARY, (*names, *arguments))
        else:
            cursor.execute(_FIND, (each.kind, list(names), list(arguments)))
        exists = True
    except _NOT_FOUND:
        cursor.execute("ROLLBACK TO SAVEPOINT external_object")
        exists = False
    cursor.execute("RELEASE SAVEPOINT external_object")
    return exists
