"""Names inside SQL text: a definition's statements, made to speak of things in other places.

The statements are PostgreSQL's own printing under an empty search path, so every name that is not
built in is written `schema.name` without space, bare where it may be and else in double quotes.

Text alone does not tell two things apart, and the rules for them are:

- `s.f(` is a call unless a word before it wants a relation (`TABLE s.t (`, `REFERENCES s.t(`). A
  function may share the name of a moved table; `calls` keeps them apart.
- `a.b` may be the column `b` of a table `a` in a policy's subquery. It is taken for a name only if
  `(a, b)` is in the map: a schema with a table's name would have to hold one with a column's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vector_backup_pipeline.engine.sql_tokens import Token, scan

__all__ = ["Name", "names_in", "relocated"]

# Schema and name, unquoted. An operator's is its sign: ("public", "<->").
Name = tuple[str, str]

# Words before a relation (or collation, or statistics) that an opening parenthesis may follow.
_BEFORE_RELATIONS = {
    *("TABLE", "EXISTS", "ONLY", "REFERENCES", "INTO", "ON", "COLLATION", "STATISTICS")
}
# Types whose literals are names: `nextval('public.docs_id_seq'::regclass)`.
_NAMING_TYPES = {
    *("regclass", "regtype", "regproc", "regprocedure"),
    *("regcollation", "regconfig", "regdictionary"),
}


@dataclass(frozen=True)
class _Found:
    """A name, and where it stands; or a literal that names stand in."""

    start: int
    end: int
    name: Name = ("", "")
    is_call: bool = False
    is_operator: bool = False
    literal: str | None = None


def relocated(
    statement: str, moved: Mapping[Name, Name], calls: Mapping[Name, Name] | None = None
) -> str:
    """`statement` with every name that is a key of `moved` replaced by its value, quoted.

    `calls` is the map for functions that are called; without it `moved` is. All else stays as it
    is, to the byte.
    """
    parts, done = [], 0
    for found in _find(statement):
        parts += [statement[done : found.start], _replaced(statement, found, moved, calls)]
        done = found.end
    return "".join((*parts, statement[done:]))


def names_in(statement: str) -> Iterator[Name]:
    """Every qualified name in `statement`, operators among them."""
    for found in _find(statement):
        if found.literal is None:
            yield found.name
        else:
            yield from names_in(found.literal)


def _replaced(
    statement: str,
    found: _Found,
    moved: Mapping[Name, Name],
    calls: Mapping[Name, Name] | None,
) -> str:
    as_it_is = statement[found.start : found.end]
    if found.literal is not None:
        literal = relocated(found.literal, moved, calls)
        return as_it_is if literal == found.literal else _literal(literal)
    places = calls if found.is_call and calls is not None else moved
    place = places.get(found.name, found.name)
    if place == found.name:
        return as_it_is
    name = place[1] if found.is_operator else _quoted(place[1])
    return _quoted(place[0]) + "." + name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    if "\\" in text:
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return "'" + doubled + "'"


def _find(statement: str) -> Iterator[_Found]:
    tokens = [token for token in scan(statement) if token.kind != "comment"]
    for number, token in enumerate(tokens):
        found = _pair(tokens, number) or _naming_literal(tokens, number, token)
        if found is not None:
            yield found


def _pair(tokens: list[Token], number: int) -> _Found | None:
    """The qualified name that begins at a token, if one does."""
    if len(tokens) < number + 3 or (number and tokens[number - 1].text == "."):
        return None
    schema, dot, second = tokens[number : number + 3]
    is_joined = schema.end == dot.start and dot.end == second.start
    if schema.identifier is None or dot.text != "." or not is_joined:
        return None
    before, after = tokens[:number][-2:], tokens[number + 3 : number + 4]
    if second.identifier is not None:
        is_call = bool(after) and after[0].text == "(" and not _wants_relation(before)
        name = schema.identifier, second.identifier
        return _Found(schema.start, second.end, name, is_call=is_call)
    if second.kind == "operator" and _opens_operator(before):
        return _Found(schema.start, second.end, (schema.identifier, second.text), is_operator=True)
    return None


def _wants_relation(before: list[Token]) -> bool:
    return bool(before) and before[-1].is_word(*_BEFORE_RELATIONS)


def _opens_operator(before: list[Token]) -> bool:
    return len(before) == 2 and before[0].is_word("OPERATOR") and before[1].text == "("


def _naming_literal(tokens: list[Token], number: int, token: Token) -> _Found | None:
    after = tokens[number + 1 : number + 3]
    if len(after) < 2 or after[0].kind != "cast" or after[1].text not in _NAMING_TYPES:
        return None
    if token.kind == "escaped":
        content = token.text[2:-1].replace("''", "'").replace("\\\\", "\\")
    elif token.kind == "string" and token.text.startswith("'"):
        content = token.text[1:-1].replace("''", "'")
    else:
        return None
    return _Found(token.start, token.end, literal=content)
