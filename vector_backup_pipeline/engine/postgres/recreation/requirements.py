"""Objects that the statements use and the backup does not contain: the target must have them."""

from collections.abc import Iterable, Mapping

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.names import NameMap
from vector_backup_pipeline.engine.postgres.recreation.target_objects import (
    ExtensionState,
    ExtensionUnavailable,
)
from vector_backup_pipeline.engine.postgres.session import savepoint
from vector_backup_pipeline.engine.table_definition import ObjectAddress

_FIND = "SELECT FROM pg_catalog.pg_get_object_address(%s, %s::text[], %s::text[])"
# pg_get_object_address takes no operator with one argument.
_FIND_PREFIX_OPERATOR = "SELECT pg_catalog.format('%%I.%%s(NONE,%%s)', %s, %s, %s)::regoperator"
_NOT_FOUND = (
    psycopg2.errors.InvalidSchemaName,
    psycopg2.errors.UndefinedFunction,
    psycopg2.errors.UndefinedObject,
)


def check_required_objects(
    cursor: Cursor,
    required: Iterable[ObjectAddress],
    name_map: NameMap,
    extensions: Mapping[str, ExtensionState],
) -> None:
    """Check what is `required`; `extensions` are those of its members that are installed.

    Raises:
        ExtensionUnavailable: the target's version of an extension lacks a member.
        DatabaseRefused: other objects are missing.
    """
    missing = [address for address in required if not _exists(cursor, address, name_map)]
    for address in missing:
        if address.extension is not None:
            version = extensions[address.extension].installed
            raise ExtensionUnavailable(
                f"The target has version {version} of the extension {address.extension}, which "
                f"lacks the {address} that the backup's tables use. Update the extension (install "
                f"a newer package and run ALTER EXTENSION {address.extension} UPDATE), then "
                "restore again."
            )
    if missing:
        raise DatabaseRefused(
            f"The target lacks objects that the backup's tables use: {', '.join(map(str, missing))}"
            ". A backup does not contain their definitions. Create them first, then restore again; "
            "pg_dump --schema-only and pg_dumpall --roles-only print them from the source."
        )


def _exists(cursor: Cursor, address: ObjectAddress, name_map: NameMap) -> bool:
    arguments = [name_map.relocated(argument) for argument in address.arguments]
    # A type's address is its name in SQL; any other ends in schema and name.
    names = list(address.names)
    if address.kind == "type":
        names = [name_map.relocated(names[0])]
    elif len(names) > 1:
        names[-2:] = name_map.find((names[-2], names[-1]))
    try:
        with savepoint(cursor):
            if address.kind == "operator" and len(arguments) == 1:
                cursor.execute(_FIND_PREFIX_OPERATOR, (*names, *arguments))
            else:
                cursor.execute(_FIND, (address.kind, names, arguments))
    except _NOT_FOUND:
        return False
    return True
