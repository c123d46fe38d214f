"""Reads manifests of schema version 1, which had a field for each kind of statement and described
every object a second time in typed fields.

Inheritance children, typed tables, range types and collations, which that version recreated, are
treated as in schema 2. The first manifests of version 1 recorded some facts as sentences; no other
module parses sentences.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from vector_backup_pipeline.engine.manifest_statements import statement_from_sql
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.sql_tokens import quoted
from vector_backup_pipeline.engine.table_definition import (
    Column,
    ColumnType,
    Dependency,
    ForeignKey,
    Index,
    Kind,
    ObjectAddress,
    Omission,
    OmissionKind,
    QualifiedName,
    Sequence,
    Statement,
    TableDefinition,
)

_Json: TypeAlias = Mapping[str, Any]

_STATEMENT_FIELDS = (
    *("sequence_ddl", "ddl", "preference_ddl", "key_ddl", "index_ddl", "late_constraint_ddl"),
    *("row_security_ddl", "comment_ddl"),
)
# Schema 2 has no statements for these.
_NOT_RECREATED = ("schema", "range", "collation")
# An omission in schema 1 only.
_OWNER = re.compile("owner |partition .*: owner ")
_UNREAD_POLICY = ", which could not be read without waiting"


def converted_from_schema_1(manifest: _Json) -> dict[str, Any]:
    """The manifest's JSON in schema 2.

    Raises:
        UnexpectedStatement: no backup wrote it.
        ValueError, LookupError, TypeError, AttributeError: not a manifest of schema 1.
    """
    objects = manifest["dependencies"]["objects"]
    tables = [
        {**table, "definition": table["definition"] and _definition(table["definition"], objects)}
        for table in manifest["tables"]
    ]
    dependencies = list(_dependencies(objects))
    return {**manifest, "schema_version": 2, "tables": tables, "dependencies": dependencies}


def _dependencies(objects: Iterable[_Json]) -> Iterator[Dependency]:
    for old in objects:
        fields = _fields(Dependency, old)
        if old["kind"] == "extension":
            yield Dependency(**fields | {"ddl": ()})
        elif old["kind"] not in _NOT_RECREATED:
            ddl = tuple(map(statement_from_sql, old["ddl"]))
            yield Dependency(**fields | {"kind": "type", "ddl": ddl})


def _definition(old: _Json, objects: list[_Json]) -> TableDefinition:
    relations = [old, *old["partitions"]]
    needed = [old_object for old_object in objects if old_object["key"] in old["needs"]]
    omissions = tuple(_omissions(old))
    can_be_created = not any(omission.prevents_creation for omission in omissions)
    statements = list(_statements(old)) if can_be_created else []
    statements.sort(key=lambda statement: list(Kind).index(statement.kind))
    keys = old["foreign_keys"] if can_be_created else []
    texts = [statement.sql for statement in statements]
    return TableDefinition(
        **_fields(TableDefinition, old)
        | {
            "columns": [
                _fields(Column, column)
                | {"generated": column["generated"] is not None}
                | {"type": _fields(ColumnType, column["type"])}
                for column in old["columns"]
            ],
            "ddl": [statement for statement in statements if statement.kind is not Kind.INDEX],
            "indexes": [index for index in _indexes(relations) if index.sql in texts],
            "foreign_keys": [ForeignKey(sql=k["ddl"], **_fields(ForeignKey, k)) for k in keys],
            "sequences": [_fields(Sequence, sequence) for sequence in old["sequences"]],
            "needs": [dependency.key for dependency in _dependencies(needed)],
            "requires": list(_required(old, relations, needed, texts)),
            "omissions": omissions,
        }
    )


def _fields(model: type[Record], old: _Json) -> dict[str, Any]:
    """Those that both schemas have."""
    return {name: old[name] for name in model.model_fields if name in old}


def _statements(old: _Json) -> Iterator[Statement]:
    texts = [sql for field in _STATEMENT_FIELDS for sql in old[field]]
    texts += [comment["ddl"] for comment in old.get("sequence_comments", ())]
    for sql in texts:
        if old["of_type"] is None or not sql.endswith(f" OF {old['of_type']}"):
            yield statement_from_sql(sql.replace("SEQUENCE IF NOT EXISTS ", "SEQUENCE ", 1))


def _indexes(relations: list[_Json]) -> Iterator[Index]:
    for relation in relations:
        for index in relation["indexes"]:
            yield Index(
                table=_name(relation),
                sql=index["definition"],
                has_rows=relation["kind"] != "partitioned",
                **_fields(Index, index),
            )


def _required(
    old: _Json, relations: list[_Json], needed: list[_Json], texts: list[str]
) -> Iterator[ObjectAddress]:
    for missing in needed:
        name = _name(missing)
        if missing["kind"] == "collation":
            names, text = name.qualified_name, f"collation {name}"
            yield ObjectAddress(kind="collation", names=names, description=text)
        elif missing["kind"] == "range":
            # The address of a type is its name in SQL.
            sql = quoted(name.qualified_name)
            yield ObjectAddress(kind="type", names=(sql,), description=f"type {name}")
    # That version also named what no statement uses, such as the function of an invalid index.
    for address in old["external_objects"]:
        if any(address["names"][-1] in sql for sql in texts):
            yield ObjectAddress(**address)
    policies = [policy for relation in relations for policy in relation["policies"]]
    for role in dict.fromkeys(role for policy in policies for role in policy["roles"]):
        yield ObjectAddress(kind="role", names=(role,), description=f"role {role}")


def _omissions(old: _Json) -> Iterator[Omission]:
    for policy in old.get("unread_policies", ()):
        yield _unread_policy(f"policy {policy['name']} of {_name(policy['table'])}")
    for parent in old["inherits"]:
        text = f"inheritance from {_name(parent)}"
        yield Omission(kind=OmissionKind.NO_STATEMENTS, text=text)
    if old["of_type"] is not None:
        text = f"type {old['of_type']} of the typed table"
        yield Omission(kind=OmissionKind.STRUCTURE, text=text)
    for text in old["not_recreated"]:
        if text.endswith(_UNREAD_POLICY):
            yield _unread_policy(text.removesuffix(_UNREAD_POLICY))
        elif not _OWNER.match(text):
            yield Omission(kind=OmissionKind.OTHER, text=text)


def _unread_policy(policy: str) -> Omission:
    text = f"{policy}, which the backup could not read"
    return Omission(kind=OmissionKind.UNREAD_POLICY, text=text)


def _name(old: _Json) -> QualifiedName:
    return QualifiedName(**_fields(QualifiedName, old))
