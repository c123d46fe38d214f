"""Which statements a manifest may hold: those that a backup writes, each about its own objects.

A restore runs a manifest's statements as they are, with the rights of its role. So each must be one
statement of a kind that belongs to its field, and name no object but those of its own definition.
An expression in it (a default, a check, an index, a policy) may still call any function that the
role may call: docs/safety.md.

A statement is compared by its outline: its tokens with one space between them, strings as `'`,
quoted names percent-encoded, and what is deeper than one pair of parentheses as `{}`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from urllib.parse import quote, unquote

from vector_backup_pipeline.engine.relocation import Name
from vector_backup_pipeline.engine.sql_tokens import Token, scan
from vector_backup_pipeline.engine.table_definition import (
    AnyDependency,
    Dependencies,
    QualifiedName,
    TableDefinition,
)

__all__ = ["unexpected_statements"]

# What PostgreSQL and this tool print. Comments, dollar quotes and U& are not among them.
_KINDS = {"escaped", "string", "quoted", "bare", "number", "cast", "operator", "other"}
_WORDS = {"escaped", "string", "quoted", "bare", "number"}
_OTHERS = set("()[],.:")

_I = r'(?:[a-z_][a-z0-9_$]*|"[^" ]+")'
_GROUP = r"\([^()]*\)"
# Without a comma of its own: ALTER TABLE takes several actions, with commas between them.
_EXPRESSION = rf"(?:[^(),]|{_GROUP})+"
_LIST = rf"(?:[^()]|{_GROUP})+"
_NUMBER = r"(?:- )?[0-9.]+"
# PostgreSQL evaluates the expressions of a bound at once, so a bound holds constants only.
_CONSTANT = rf"(?:'|{_NUMBER}(?:[eE][-+]?[0-9]+)?|true|false|NULL|MINVALUE|MAXVALUE)"
_CONSTANTS = rf"\( {_CONSTANT}(?: , {_CONSTANT})* \)"
_BOUND = (
    rf"(?:DEFAULT|FOR VALUES (?:IN {_CONSTANTS}|FROM {_CONSTANTS} TO {_CONSTANTS}"
    rf"|WITH \( modulus {_NUMBER} , remainder {_NUMBER} \)))"
)


def _name(group: str) -> str:
    """A qualified name that must be one of the names of this kind."""
    return rf"(?P<{group}>{_I} \. {_I})"


def _any_of(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


_ALTER_TABLE = rf"ALTER TABLE ONLY {_name('table')} "
_ALTER_COLUMN = rf"{_ALTER_TABLE}ALTER COLUMN {_I} "
_ALTER_INDEX = rf"ALTER INDEX {_name('index')} "

_STATEMENTS: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "sequence_ddl": _any_of(
        rf"CREATE (?:UNLOGGED )?SEQUENCE IF NOT EXISTS {_name('sequence')} AS {_I} START WITH "
        rf"{_NUMBER} INCREMENT BY {_NUMBER} MINVALUE {_NUMBER} MAXVALUE {_NUMBER} CACHE {_NUMBER}"
        r"(?: CYCLE)?"
    ),
    "ddl": _any_of(
        rf"CREATE (?:UNLOGGED )?TABLE {_name('created')} {_GROUP}"
        r"(?: INHERITS \( (?P<parents>[^(){}]*) \))?"
        rf"(?: PARTITION BY (?:LIST|RANGE|HASH) {_GROUP})?(?: USING {_I})?(?: WITH {_GROUP})?",
        rf"{_ALTER_COLUMN}(?:DROP DEFAULT|SET DEFAULT {_EXPRESSION}|SET NOT NULL"
        rf"|ADD GENERATED (?:ALWAYS|BY DEFAULT) AS IDENTITY {_GROUP}"
        rf"|SET STORAGE [A-Z]+|SET STATISTICS {_NUMBER}|SET {_GROUP})",
        rf"{_ALTER_TABLE}(?:ADD CONSTRAINT {_I} (?:NOT NULL|CHECK) {_EXPRESSION}"
        rf"|OF {_EXPRESSION}|ATTACH PARTITION {_name('partition')} {_BOUND})",
        rf"ALTER SEQUENCE {_name('sequence')} OWNED BY {_name('table')} \. {_I}",
    ),
    "preference_ddl": _any_of(
        rf"{_ALTER_COLUMN}SET (?:COMPRESSION {_I}|{_GROUP})", rf"{_ALTER_TABLE}SET {_GROUP}"
    ),
    "key_ddl": _any_of(
        rf"{_ALTER_TABLE}ADD CONSTRAINT {_I} (?:PRIMARY KEY|UNIQUE|EXCLUDE) {_EXPRESSION}",
        rf"{_ALTER_INDEX}(?:SET {_GROUP}|ATTACH PARTITION {_name('partition_index')})",
    ),
    "index_ddl": _any_of(
        rf"CREATE (?:UNIQUE )?INDEX {_I} ON (?:ONLY )?{_name('table')} USING {_I} {_GROUP}"
        rf"(?: INCLUDE {_GROUP})?(?: NULLS NOT DISTINCT)?(?: WITH {_GROUP})?"
        rf"(?: WHERE {_EXPRESSION})?",
        rf"{_ALTER_INDEX}(?:ALTER COLUMN {_NUMBER} SET STATISTICS {_NUMBER}"
        rf"|ATTACH PARTITION {_name('partition_index')})",
        rf"{_ALTER_TABLE}(?:CLUSTER ON {_I}|REPLICA IDENTITY (?:USING INDEX {_I}|FULL|NOTHING))",
        rf"CREATE STATISTICS {_name('statistics')}(?: {_GROUP})? ON {_LIST} FROM {_name('table')}",
        rf"ALTER STATISTICS {_name('statistics')} SET STATISTICS {_NUMBER}",
    ),
    "late_constraint_ddl": _any_of(
        rf"ALTER TABLE {_name('table')} ADD CONSTRAINT {_I} (?:NOT NULL|CHECK) {_EXPRESSION}"
    ),
    "foreign_key_ddl": _any_of(
        rf"ALTER TABLE (?:ONLY )?{_name('table')} ADD CONSTRAINT {_I} FOREIGN KEY {_GROUP}"
        rf" REFERENCES {_name('referenced')} {_EXPRESSION}"
    ),
    "row_security_ddl": _any_of(
        rf"CREATE POLICY {_I} ON {_name('table')} AS (?:PERMISSIVE|RESTRICTIVE)"
        rf" FOR (?:ALL|SELECT|INSERT|UPDATE|DELETE) TO (?:PUBLIC|{_I}(?: , {_I})*)"
        rf"(?: USING {_GROUP})?(?: WITH CHECK {_GROUP})?",
        rf"ALTER TABLE {_name('table')} ENABLE ROW LEVEL SECURITY",
        rf"{_ALTER_TABLE}FORCE ROW LEVEL SECURITY",
    ),
    "comment_ddl": _any_of(
        rf"COMMENT ON TABLE {_name('table')} IS '",
        rf"COMMENT ON COLUMN {_name('table')} \. {_I} IS '",
        rf"COMMENT ON (?:CONSTRAINT|POLICY) {_I} ON {_name('table')} IS '",
        rf"COMMENT ON INDEX {_name('index')} IS '",
        rf"COMMENT ON STATISTICS {_name('statistics')} IS '",
    ),
    "sequence_comment_ddl": _any_of(rf"COMMENT ON SEQUENCE {_name('sequence')} IS '"),
}
_COMMENT_ON_TYPE = rf"COMMENT ON TYPE {_name('object')} IS '"
_DEPENDENCIES: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "schema": _any_of(rf"CREATE SCHEMA IF NOT EXISTS (?P<object>{_I})"),
    "extension": _any_of(rf"CREATE EXTENSION IF NOT EXISTS (?P<object>{_I}) WITH SCHEMA {_I}"),
    "collation": _any_of(rf"CREATE COLLATION {_name('object')} {_GROUP}"),
    "enum": _any_of(rf"CREATE TYPE {_name('object')} AS ENUM {_GROUP}", _COMMENT_ON_TYPE),
    "range": _any_of(rf"CREATE TYPE {_name('object')} AS RANGE {_GROUP}", _COMMENT_ON_TYPE),
    "composite": _any_of(
        rf"CREATE TYPE {_name('object')} AS {_GROUP}",
        _COMMENT_ON_TYPE,
        rf"COMMENT ON COLUMN {_name('object')} \. {_I} IS '",
    ),
    "domain": _any_of(
        rf"CREATE DOMAIN {_name('object')} AS {_EXPRESSION}",
        rf"ALTER DOMAIN {_name('object')} ADD CONSTRAINT {_I} CHECK {_EXPRESSION}",
        rf"COMMENT ON DOMAIN {_name('object')} IS '",
        rf"COMMENT ON CONSTRAINT {_I} ON DOMAIN {_name('object')} IS '",
    ),
}

Names = Collection[tuple[str, ...]]


def unexpected_statements(
    tables: Sequence[TableDefinition], dependencies: Dependencies
) -> Iterator[str]:
    """Each statement that no backup writes, after the field that holds it."""
    for each in dependencies.objects:
        names = {"object": [_object_name(each)]}
        for statement in each.ddl:
            if _matched(statement, _DEPENDENCIES[each.kind], names) is None:
                yield f"{each.key}: {statement}"
    for table in tables:
        yield from (f"{table}.{found}" for found in _unexpected_of(table))


def _unexpected_of(table: TableDefinition) -> Iterator[str]:
    names = _own_names(table)
    created: list[tuple[str, ...]] = []
    holds_any = False
    for field, patterns in _STATEMENTS.items():
        for statement in getattr(table, field):
            holds_any = True
            match = _matched(statement, patterns, names)
            if match is None:
                yield f"{field}: {statement}"
            elif name := match.groupdict().get("created"):
                created.append(_decoded(name))
    # A statement that alters a table alters one that this definition creates, not any other.
    if holds_any and sorted(created) != sorted(names["table"]):
        yield f"ddl: it creates {created}"


def _own_names(table: TableDefinition) -> dict[str, Names]:
    relations = (table, *table.partitions)
    own = [_name_of(each) for each in relations]
    indexes = {
        (relation.schema_name, name)
        for relation in relations
        for name in (
            *(constraint.name for constraint in relation.constraints),
            *(index.name for index in relation.indexes),
        )
    }
    return {
        "table": own,
        "created": own,
        "partition": own,
        "index": indexes,
        "partition_index": indexes,
        "sequence": [_name_of(each) for each in table.sequences],
        "statistics": [_name_of(each) for relation in relations for each in relation.statistics],
        "referenced": [_name_of(each.references) for each in table.foreign_keys],
        "parents": [sum(map(_name_of, table.inherits), ())],
    }


def _name_of(thing: QualifiedName) -> Name:
    return thing.schema_name, thing.name


def _object_name(each: AnyDependency) -> tuple[str, ...]:
    return _name_of(each) if isinstance(each, QualifiedName) else (each.name,)


def _matched(
    statement: str, patterns: Sequence[re.Pattern[str]], names: Mapping[str, Names]
) -> re.Match[str] | None:
    outline = _outline(statement)
    for pattern in patterns:
        match = pattern.fullmatch(outline) if outline is not None else None
        if match is not None:
            named = {group: text for group, text in match.groupdict().items() if text is not None}
            are_own = (_decoded(text) in names[group] for group, text in named.items())
            return match if all(are_own) else None
    return None


def _decoded(names: str) -> tuple[str, ...]:
    """The identifiers in a part of an outline."""
    parts = (part for part in names.split(" ") if part not in (".", ","))
    return tuple(unquote(part[1:-1]) if part.startswith('"') else part for part in parts)


def _outline(statement: str) -> str | None:
    """None for text that no backup writes, and that PostgreSQL may read otherwise than it looks."""
    tokens = list(scan(statement))
    if not all(map(_is_plain, tokens)) or any(_merge(*pair) for pair in pairwise(tokens)):
        return None
    parts: list[str] = []
    opened: list[str] = []
    for token in tokens:
        is_group = token.text in ("(", "[")
        if is_group:
            opened.append(token.text)
        if len(opened) < 2:
            parts.append(_part(token))
        if token.text in (")", "]"):
            if not opened or opened.pop() + token.text not in ("()", "[]"):
                return None
            if len(opened) == 1:
                parts.append("{}")
    return None if opened else " ".join(parts)


def _is_plain(token: Token) -> bool:
    if token.kind == "other":
        return token.text in _OTHERS
    has_unicode_escapes = token.kind == "string" and token.text[0] in "uU"
    return token.kind in _KINDS and not has_unicode_escapes


def _merge(left: Token, right: Token) -> bool:
    """Whether the two may be read as one, or be split elsewhere, by another server version. Two
    strings with a line break between them are one."""
    both_are = {left.kind, right.kind}
    if both_are <= {"escaped", "string"}:
        return True
    return left.end == right.start and both_are <= _WORDS


def _part(token: Token) -> str:
    if token.kind in ("escaped", "string"):
        return "'"
    if token.kind == "quoted":
        return '"' + quote(token.identifier or "", safe="") + '"'
    return {"[": "(", "]": ")"}.get(token.text, token.text)
