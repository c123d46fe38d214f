"""Checks that a manifest contains only statements that a backup writes, about its own objects.

A restore runs them with the rights of its role. So each must be a single statement of its kind, and
create or alter only objects of its own definition. Expressions (defaults, checks, policies) may
still call any function that the role may call: docs/safety.md.

A statement is compared by its outline: its tokens with one space between them, strings as `'`,
quoted names percent-encoded, and everything inside a second level of parentheses as `{}`.
"""

import re
from collections.abc import Iterable, Mapping, Set
from itertools import pairwise, starmap
from urllib.parse import quote, unquote

from vector_backup_pipeline.engine.sql_tokens import Name, Token, scan
from vector_backup_pipeline.engine.table_definition import (
    Dependency,
    Kind,
    Statement,
    TableDefinition,
)

__all__ = ["UnexpectedStatement", "check_statements", "statement_from_sql"]

_STRINGS = {"escaped", "string"}
_WORDS = {"escaped", "string", "quoted", "bare", "number"}

_I = r'(?:[a-z_][a-z0-9_$]*|"[^" ]+")'
_GROUP = r"\([^()]*\)"
# Without a comma of its own: ALTER TABLE takes several actions, with commas between them.
_EXPRESSION = rf"(?:[^(),]|{_GROUP})+"
_LIST = rf"(?:[^()]|{_GROUP})+"
_NUMBER = r"(?:- )?[0-9.]+"
# PostgreSQL evaluates the expressions of a bound at once, so a bound contains constants only.
_CONSTANT = rf"(?:'|{_NUMBER}(?:[eE][-+]?[0-9]+)?|true|false|NULL|MINVALUE|MAXVALUE)"
_CONSTANTS = rf"\( {_CONSTANT}(?: , {_CONSTANT})* \)"
_BOUND = (
    rf"(?:DEFAULT|FOR VALUES (?:IN {_CONSTANTS}|FROM {_CONSTANTS} TO {_CONSTANTS}"
    rf"|WITH \( modulus {_NUMBER} , remainder {_NUMBER} \)))"
)
# The statement's own name; another object of the same definition; any object.
_ANY = rf"{_I} \. {_I}"
_SELF = rf"(?P<name>{_ANY})"
_OWN = rf"(?P<own>{_ANY})"
_ALTER_TABLE = rf"ALTER TABLE ONLY {_SELF} "
_ALTER_INDEX = rf"ALTER INDEX {_SELF} "

_PATTERNS: Mapping[Kind, str] = {
    Kind.TYPE: rf"CREATE TYPE {_SELF} AS (?:ENUM )?{_GROUP}",
    Kind.DOMAIN: rf"CREATE DOMAIN {_SELF} AS {_EXPRESSION}",
    Kind.DOMAIN_CONSTRAINT: rf"ALTER DOMAIN {_SELF} ADD CONSTRAINT {_I} CHECK {_EXPRESSION}",
    Kind.SEQUENCE: rf"CREATE (?:UNLOGGED )?SEQUENCE {_SELF} AS {_I} START WITH {_NUMBER} "
    rf"INCREMENT BY {_NUMBER} MINVALUE {_NUMBER} MAXVALUE {_NUMBER} CACHE {_NUMBER}(?: CYCLE)?",
    Kind.TABLE: rf"CREATE (?:UNLOGGED )?TABLE {_SELF} {_GROUP}"
    rf"(?: PARTITION BY (?:LIST|RANGE|HASH) {_GROUP})?(?: USING {_I})?(?: WITH {_GROUP})?",
    Kind.COLUMN: rf"{_ALTER_TABLE}ALTER COLUMN {_I} "
    rf"SET (?:STORAGE [A-Z]+|STATISTICS {_NUMBER})",
    Kind.PARTITION: rf"ALTER TABLE ONLY {_OWN} ATTACH PARTITION {_SELF} {_BOUND}",
    Kind.SEQUENCE_OWNER: rf"ALTER SEQUENCE {_SELF} OWNED BY {_OWN} \. {_I}",
    Kind.SETTING: rf"{_ALTER_TABLE}(?:SET {_GROUP}"
    rf"|ALTER COLUMN {_I} SET (?:COMPRESSION {_I}|{_GROUP}))",
    Kind.KEY: rf"ALTER TABLE ONLY {_OWN} ADD CONSTRAINT (?P<index>{_I}) "
    rf"(?:PRIMARY KEY|UNIQUE|EXCLUDE) {_EXPRESSION}",
    Kind.INDEX: rf"CREATE (?:UNIQUE )?INDEX (?P<index>{_I}) ON (?:ONLY )?{_OWN} USING {_I} "
    rf"{_GROUP}(?: INCLUDE {_GROUP})?(?: NULLS NOT DISTINCT)?(?: WITH {_GROUP})?"
    rf"(?: WHERE {_EXPRESSION})?",
    Kind.INDEX_SETTING: rf"{_ALTER_INDEX}(?:SET {_GROUP}"
    rf"|ALTER COLUMN {_NUMBER} SET STATISTICS {_NUMBER})",
    Kind.INDEX_PARTITION: rf"ALTER INDEX {_OWN} ATTACH PARTITION {_SELF}",
    Kind.INDEX_CHOICE: rf"{_ALTER_TABLE}(?:CLUSTER ON {_I}"
    rf"|REPLICA IDENTITY (?:USING INDEX {_I}|FULL|NOTHING))",
    Kind.STATISTICS: rf"CREATE STATISTICS {_SELF}(?: {_GROUP})? ON {_LIST} FROM {_OWN}",
    Kind.STATISTICS_TARGET: rf"ALTER STATISTICS {_SELF} SET STATISTICS {_NUMBER}",
    Kind.CONSTRAINT: rf"ALTER TABLE {_SELF} ADD CONSTRAINT {_I} (?:NOT NULL|CHECK) "
    rf"{_EXPRESSION}",
    Kind.FOREIGN_KEY: rf"ALTER TABLE (?:ONLY )?{_SELF} ADD CONSTRAINT {_I} FOREIGN KEY {_GROUP}"
    rf" REFERENCES (?P<referenced>{_ANY}) {_EXPRESSION}",
    Kind.POLICY: rf"CREATE POLICY {_I} ON {_SELF} AS (?:PERMISSIVE|RESTRICTIVE)"
    rf" FOR (?:ALL|SELECT|INSERT|UPDATE|DELETE) TO (?:PUBLIC|{_I}(?: , {_I})*)"
    rf"(?: USING {_GROUP})?(?: WITH CHECK {_GROUP})?",
    Kind.ROW_SECURITY: rf"ALTER TABLE (?:ONLY )?{_SELF} (?:ENABLE|FORCE) ROW LEVEL SECURITY",
    Kind.COMMENT: r"COMMENT ON (?:TABLE|COLUMN|INDEX|SEQUENCE|STATISTICS|TYPE|DOMAIN"
    rf"|(?:CONSTRAINT|POLICY) {_I} ON(?: DOMAIN)?) {_SELF}(?: \. {_I})? IS '",
}
_OF_TYPES = {Kind.TYPE, Kind.DOMAIN, Kind.DOMAIN_CONSTRAINT, Kind.COMMENT}


class UnexpectedStatement(Exception):
    """A statement that no backup writes."""

    def __init__(self, sql: str) -> None:
        super().__init__(sql)
        self.sql = sql


def check_statements(tables: Iterable[TableDefinition], dependencies: Iterable[Dependency]) -> None:
    """Raises UnexpectedStatement."""
    for dependency in dependencies:
        created = {
            statement.qualified_name
            for statement in dependency.ddl
            if statement.kind in (Kind.TYPE, Kind.DOMAIN)
        }
        for statement in dependency.ddl:
            if statement.kind not in _OF_TYPES or created != {dependency.qualified_name}:
                raise UnexpectedStatement(statement.sql)
            _check(statement, created)
    for table in tables:
        own = {statement.qualified_name for statement in table.created}
        own |= {sequence.qualified_name for sequence in table.sequences}
        for statement in (*table.ddl, *(index.statement for index in table.indexes)):
            _check(statement, own)
        for key in table.foreign_keys:
            _check(key.statement, own, key.references.qualified_name)


def statement_from_sql(sql: str) -> Statement:
    """The statement with its kind and name. Raises UnexpectedStatement."""
    outline = _outline(sql)
    for kind, pattern in _PATTERNS.items():
        match = re.fullmatch(pattern, outline)
        if match is not None:
            return Statement(kind, *_name(match.groupdict()), sql)
    raise UnexpectedStatement(sql)


def _check(statement: Statement, own: Set[Name], referenced: Name | None = None) -> None:
    match = re.fullmatch(_PATTERNS[statement.kind], _outline(statement.sql))
    groups = {} if match is None else match.groupdict()
    if (
        match is None
        or _name(groups) != statement.qualified_name
        or statement.qualified_name not in own
        or ("own" in groups and _decoded(groups["own"]) not in own)
        or ("referenced" in groups and _decoded(groups["referenced"]) != referenced)
    ):
        raise UnexpectedStatement(statement.sql)


def _name(groups: Mapping[str, str]) -> Name:
    """A key or index has no schema in its statement: it is in its table's."""
    if "name" in groups:
        return _decoded(groups["name"])
    return _decoded(groups["own"])[0], _identifier(groups["index"])


def _decoded(name: str) -> Name:
    schema, _, plain = name.split(" ")
    return _identifier(schema), _identifier(plain)


def _identifier(part: str) -> str:
    return unquote(part[1:-1]) if part.startswith('"') else part


def _outline(sql: str) -> str:
    """Empty for text that no backup writes, and that PostgreSQL may read otherwise than it looks:
    no pattern matches it."""
    tokens = list(scan(sql))
    if any(token.kind == "odd" for token in tokens) or any(starmap(_merge, pairwise(tokens))):
        return ""
    parts: list[str] = []
    opened: list[str] = []
    for token in tokens:
        if token.text in ("(", "["):
            opened.append(token.text)
        if len(opened) < 2:
            parts.append(_part(token))
        if token.text in (")", "]"):
            if not opened or opened.pop() + token.text not in ("()", "[]"):
                return ""
            if len(opened) == 1:
                parts.append("{}")
    return "" if opened else " ".join(parts)


def _merge(left: Token, right: Token) -> bool:
    """Whether another server version may read the two as one, or split them elsewhere. Two strings
    with a line break between them are one."""
    both = {left.kind, right.kind}
    return both <= _STRINGS or (left.end == right.start and both <= _WORDS)


def _part(token: Token) -> str:
    if token.kind in _STRINGS:
        return "'"
    if token.kind == "quoted":
        return '"' + quote(token.identifier or "", safe="") + '"'
    return {"[": "(", "]": ")"}.get(token.text, token.text)
