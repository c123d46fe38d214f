"""Table definitions as earlier versions wrote them, read as today's.

Those versions recorded some facts in words only: the policies that could not be read, the owner
among what is not recreated, and which comments are on sequences. Only this module reads the words.
"""

from __future__ import annotations

from collections.abc import Iterator

from vector_backup_pipeline.engine.relocation import names_in
from vector_backup_pipeline.engine.table_definition import (
    QualifiedName,
    Relation,
    SequenceComment,
    TableDefinition,
    UnreadPolicy,
)

_POLICY, _NOT_READ = "policy ", ", which could not be read without waiting"
_SEQUENCE_COMMENT = "COMMENT ON SEQUENCE "


def definition_as_written_today(table: TableDefinition) -> TableDefinition:
    """`table` with typed fields in place of those words; unchanged if it has the fields."""
    if "unread_policies" in table.model_fields_set:
        return table
    policies = dict(_policies(table))
    owners = {_about(table, each) + f"owner {each.owner}" for each in _relations(table)}
    comments = [each for each in table.comment_ddl if each.startswith(_SEQUENCE_COMMENT)]
    return table.model_copy(
        update={
            "unread_policies": tuple(policies.values()),
            "not_recreated": tuple(
                text for text in table.not_recreated if text not in policies and text not in owners
            ),
            "comment_ddl": tuple(each for each in table.comment_ddl if each not in comments),
            "sequence_comments": tuple(map(_sequence_comment, comments)),
        }
    )


def _policies(table: TableDefinition) -> Iterator[tuple[str, UnreadPolicy]]:
    for relation in _relations(table):
        before = _about(table, relation) + _POLICY
        for text in table.not_recreated:
            if text.startswith(before) and text.endswith(_NOT_READ):
                name = text.removeprefix(before).removesuffix(_NOT_READ)
                yield text, UnreadPolicy(table=_name(relation), name=name)


def _relations(table: TableDefinition) -> tuple[Relation, ...]:
    return table, *table.partitions


def _about(table: TableDefinition, relation: Relation) -> str:
    return "" if relation is table else f"partition {relation}: "


def _name(relation: Relation) -> QualifiedName:
    return QualifiedName(schema_name=relation.schema_name, name=relation.name)


def _sequence_comment(statement: str) -> SequenceComment:
    schema_name, name = next(names_in(statement), ("", ""))
    return SequenceComment(schema_name=schema_name, name=name, ddl=statement)
