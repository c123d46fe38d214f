"""SQL as PostgreSQL prints it, split into tokens; and the qualified names in it.

PostgreSQL's own functions print neither comments nor dollar quotes nor Unicode escapes: these, and
an unterminated string or name, become one token of kind `odd`, up to the end. Strings are read with
standard_conforming_strings on.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Name", "Token", "quoted", "relocated", "scan"]

# Schema and name, unquoted. An operator's is its sign: ("public", "<->").
Name = tuple[str, str]

_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\n\r\f\v]+ )
  | -- .* | /\* .* | \$ .* | [uU]&['"] .*
  | (?P<escaped> [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*' )
  | (?P<string> [bBxXnN]?'[^']*(?:''[^']*)*' )
  | (?P<quoted> "[^"]+(?:""[^"]*)*" | "(?:""[^"]*)+" )
  | [eEbBxXnN]?'.* | ".*
  | (?P<bare> [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
  | (?P<number> (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
  | (?P<cast> :: )
  | (?P<operator> (?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+ )
  | (?P<punctuation> [()\[\],.:] )
  | .
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)

# Words before a relation (or statistics) that an opening parenthesis may follow.
_BEFORE_RELATIONS = {"TABLE", "EXISTS", "ONLY", "REFERENCES", "INTO", "ON", "STATISTICS"}
# Types whose literals are names: `nextval('public.docs_id_seq'::regclass)`.
_NAMING_TYPES = {
    *("regclass", "regtype", "regproc", "regprocedure"),
    *("regcollation", "regconfig", "regdictionary"),
}


@dataclass(frozen=True)
class Token:
    """`kind` is the name of its group in the pattern, or `odd`."""

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
        if match.lastgroup != "space":
            yield Token(match.lastgroup or "odd", match.group(), match.start(), match.end())


def relocated(
    statement: str, moved: Mapping[Name, Name], calls: Mapping[Name, Name] | None = None
) -> str:
    """`statement` with every qualified name that is a key of `moved` replaced by its value, quoted.
    Everything else stays as it is, to the byte.

    A name before a parenthesis is a function call, and is looked up in `calls` if there is one: a
    function may share the name of a table. `TABLE s.t (` and `REFERENCES s.t(` are not calls. In a
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
            before = [token.text.upper() for token in tokens[max(0, number - 2) : number]]
            is_called = [token.text for token in tokens[number + 3 : number + 4]] == ["("]
            names = moved
            if last.identifier is None:
                names = moved if before == ["OPERATOR", "("] else {}
            elif is_called and calls is not None and not _BEFORE_RELATIONS & {*before[-1:]}:
                names = calls
            old, end = (first.identifier or "", last.identifier or last.text), last.end
            new = names.get(old, old)
            text = statement[first.start : end] if new == old else _printed(new, last)
        elif middle.kind == "cast" and last.text in _NAMING_TYPES:
            end, text = first.end, _relocated_literal(first, moved, calls)
        else:
            continue
        parts += [statement[done : first.start], text]
        done = end
    return "".join((*parts, statement[done:]))


def _printed(name: Name, token: Token) -> str:
    return f"{_quoted(name[0])}.{name[1]}" if token.kind == "operator" else quoted(name)


def _relocated_literal(
    literal: Token, moved: Mapping[Name, Name], calls: Mapping[Name, Name] | None
) -> str:
    """A string whose type says that it is a name."""
    if not literal.text.startswith(("'", "E'", "e'")):
        return literal.text
    text = literal.text.lstrip("eE")[1:-1].replace("''", "'")
    if literal.kind == "escaped":
        text = text.replace("\\\\", "\\")
    new = relocated(text, moved, calls)
    if new == text:
        return literal.text
    escaped = new.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'" if "\\" in new else f"'{escaped}'"


def quoted(name: Name) -> str:
    return ".".join(map(_quoted, name))


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
