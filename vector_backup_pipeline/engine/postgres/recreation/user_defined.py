"""Functions, operators and types that a backup only names: the target must have them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.places import Places
from vector_backup_pipeline.engine.postgres.recreation.tables import (
    NewTable,
    name_of,
    names_used,
    relations_of,
)
from vector_backup_pipeline.engine.relocation import Name, names_in
from vector_backup_pipeline.engine.table_definition import AnyDependency

# As pg_describe_object says it in `not_recreated`, where a partition's are the table's own.
_NAMED = re.compile(r"(function|operator|type) (?!(?:class|family) )(.+)", re.DOTALL)
_LOOK_UP = {
    "function": "SELECT pg_catalog.to_regprocedure(%s) IS NOT NULL",
    "operator": "SELECT pg_catalog.to_regoperator(%s) IS NOT NULL",
    "type": "SELECT pg_catalog.to_regtype(%s) IS NOT NULL",
}


@dataclass(frozen=True)
class _UserDefined:
    """`signature` is a name as SQL has it, with its argument types if it is not a type."""

    kind: str
    signature: str

    def __str__(self) -> str:
        return f"{self.kind} {self.signature}"

    @property
    def name(self) -> Name | None:
        is_operator = self.kind == "operator"
        return next(names_in("OPERATOR(" + self.signature if is_operator else self.signature), None)


def check_user_defined(
    cursor: Cursor, tables: Sequence[NewTable], missing: Sequence[AnyDependency], places: Places
) -> None:
    """Look for what the statements of `tables`, and of their `missing` prerequisites, use.

    Raises:
        DatabaseRefused: the target lacks some of it.
    """
    used = set(names_used(missing, tables))
    # A table's row type comes with it.
    made = {name_of(relation) for relation in relations_of(tables)}
    wanted = dict.fromkeys(
        each
        for each in _user_defined(tables)
        if each.name in used and not (each.kind == "type" and each.name in made)
    )
    lacking = [str(each) for each in wanted if not _is_there(cursor, each, places)]
    if lacking:
        raise DatabaseRefused(
            f"The backup's tables use {', '.join(lacking)}: a backup holds no definition of that, "
            "and the target does not have it. Create them first, then restore."
        )


def _user_defined(tables: Sequence[NewTable]) -> Iterator[_UserDefined]:
    for table in tables:
        for named in filter(None, map(_NAMED.fullmatch, table.definition.not_recreated)):
            yield _UserDefined(named.group(1), named.group(2))


def _is_there(cursor: Cursor, what: _UserDefined, places: Places) -> bool:
    """Before PostgreSQL 16 an argument type that is missing is an error."""
    cursor.execute("SAVEPOINT user_defined")
    try:
        cursor.execute(_LOOK_UP[what.kind], (places.relocated(what.signature),))
        ((is_there,),) = cursor.fetchall()
    except (psycopg2.errors.UndefinedObject, psycopg2.errors.InvalidSchemaName):
        cursor.execute("ROLLBACK TO SAVEPOINT user_defined")
        is_there = False
    cursor.execute("RELEASE SAVEPOINT user_defined")
    return bool(is_there)
