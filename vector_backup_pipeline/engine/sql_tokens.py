"""SQL as PostgreSQL prints it, split into tokens; and the qualified names in it.

PostgreSQL's own functions print neither comments nor dollar quotes nor Unicode escapes: these, and
whatever is not closed, become one token of kind `odd`, up to the end. Strings are read with
standard_conforming_strings on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Name", "Token", "quoted", "relocated", "scan"]

# Schema and name, unquoted. An operator's is its sign: ("public", "<->").
Name = tuple[str, str]

_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\n\r\f\v]+ )
  | (?P<odd> -- .* | /\* .* | \$ .* | [uU]&['"] .* )
  | (?P<escaped> [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*' )
  | (?P<string> [bBxXnN]?'[^']*(?:''[^']*)*' )
  | (?P<quoted> "[^"]+(?:""[^"]*)*" | "(?:""[^"]*)+" )
  | (?P<unclosed> [eEbBxXnN]?'.* | ".* )
  | (?P<bare> [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
  | (?P<number> (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
  | (?P<cast> :: )
  | (?P<operator> (?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+ )
  | (?P<punctuation> [()\[\],.:] )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ODD = {"unclosed": "odd", "other": "odd"}

# Words before a relation (or statistics) that an opening parenthesis may follow.
_BEFORE_RELATIONS = {"TABLE", "EXISTS", "ONLY", "REFERENCES", "INTO", "ON", "STATISTICS"}
# Types whose literals are names: `nextval('public.docs_id_seq'::regclass)`.
_NAMING_TYPES = {
    *("regclass", "regtype", "regproc", "regprocedure"),
    *("regcollation", "regconfig", "regdictionary"),
}


@dataclass(frozen=True)
class Token:
    """`kind` is the name of its group in the pattern."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def identifier(self) -> str | None:
        if self.kind == "bare":
            return self.text
        return self.text[1:-1].replace('""', '"') if self.kind == "quoted" else None


def scan(statement: str) -> Iterator[Token]:
    """All tokens but white space."""
    for match in _TOKEN.finditer(statement):
        kind = match.lastgroup or ""
        if kind != "space":
            yield Token(_ODD.get(kind, kind), match.group(), match.start(), match.end())


def relocated(
    statement: str, moved: Mapping[Name, Name], calls: Mapping[Name, Name] | None = None
) -> str:
    """`statement` with every qualified name that is a key of `moved` replaced by its value, quoted.
    Everything else stays as it is, to the byte.

    A name before a parenthesis is a function call, and is looked up in `calls` if there is one: a
    function may share the name of a table. `TABLE s.t (` and `REFERENCES s.t(` are no calls. In a
    policy's subquery `a.b` may be the column b of a table a; it is mistaken for a name only if
    (a, b) is in the map, which takes a schema with the table's name.
    """
    tokens = list(scan(statement))
    parts, done = [], 0
    for number in range(len(tokens) - 2):
        first, middle, last = tokens[number : number + 3]
        if first.start < done:
            continue
        if middle.text == "." and first.end == middle.start and middle.end == last.start:
            before, after = tokens[max(0, number - 2) : number], tokens[number + 3 : number + 4]
            old, names = _name(first, last, before, after, moved, calls)
            end, new = last.end, _printed(names.get(old, old), old, last)
        elif middle.kind == "cast" and last.text in _NAMING_TYPES:
            end, new = first.end, _relocated_literal(first.text, moved, calls)
        else:
            continue
        parts += [statement[done : first.start], new or statement[first.start : end]]
        done = end
    return "".join((*parts, statement[done:]))


def _name(
    first: Token,
    last: Token,
    before: list[Token],
    after: list[Token],
    moved: Mapping[Name, Name],
    calls: Mapping[Name, Name] | None,
) -> tuple[Name, Mapping[Name, Name]]:
    """A qualified name, and the map that it is looked up in."""
    if last.identifier is None:
        is_operator = [token.text.upper() for token in before] == ["OPERATOR", "("]
        return (first.identifier or "", last.text), moved if is_operator else {}
    wants_relation = bool(before) and before[-1].text.upper() in _BEFORE_RELATIONS
    is_call = bool(after) and after[0].text == "(" and not wants_relation
    names = calls if is_call and calls is not None else moved
    return (first.identifier or "", last.identifier), names


def _printed(new: Name, old: Name, token: Token) -> str | None:
    if new == old:
        return None
    return f"{_quoted(new[0])}.{new[1]}" if token.kind == "operator" else quoted(new)


def _relocated_literal(
    literal: str, moved: Mapping[Name, Name], calls: Mapping[Name, Name] | None
) -> str | None:
    """A string whose type says that it is a name."""
    if literal.upper().startswith("E'"):
        text = literal[2:-1].replace("''", "'").replace("\\\\", "\\")
    elif literal.startswith("'"):
        text = literal[1:-1].replace("''", "'")
    else:
        return None
    new = relocated(text, moved, calls)
    if new == text:
        return None
    escaped = new.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'" if "\\" in new else f"'{escaped}'"


def quoted(name: Name) -> str:
    return ".".join(map(_quoted, name))


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
