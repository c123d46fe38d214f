"""SQL text as PostgreSQL's scanner splits it (scan.l), with `standard_conforming_strings` on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Token", "scan"]

# What is not closed reaches to the end, so that nothing in it is taken for anything else.
_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\n\r\f\v]+ )
  | (?P<comment> --[^\n\r]* | /\* )
  | (?P<escaped> [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*' )
  | (?P<string> (?:[bBxXnN]|[uU]&)?'[^']*(?:''[^']*)*' )
  | (?P<dollars> \$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?)\$
        .*?(?:\$(?P=tag)\$|\Z) )
  | (?P<odd> [uU]&"[^"]*(?:""[^"]*)*(?:"|\Z) )
  | (?P<quoted> "[^"]*(?:""[^"]*)*" )
  | (?P<unclosed> (?:[eEbBxXnN]|[uU]&)?'.* | ".* )
  | (?P<bare> [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
  | (?P<number> (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
  | (?P<parameter> \$[0-9]+ )
  | (?P<cast> :: )
  | (?P<operator> (?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NESTED_COMMENT = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Token:
    """`kind` is the name of its group above."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def identifier(self) -> str | None:
        if self.kind == "bare":
            return self.text
        return self.text[1:-1].replace('""', '"') if self.kind == "quoted" else None

    def is_word(self, *words: str) -> bool:
        return self.kind == "bare" and self.text.upper() in words


def scan(statement: str) -> Iterator[Token]:
    """Everything but white space, comments too."""
    position = 0
    while match := _TOKEN.match(statement, position):
        kind = match.lastgroup or ""
        is_block = kind == "comment" and match.group() == "/*"
        end = _comment_end(statement, position) if is_block else match.end()
        if kind != "space":
            yield Token(kind, statement[position:end], position, end)
        position = end


def _comment_end(statement: str, start: int) -> int:
    """Comments nest."""
    depth = 0
    for mark in _NESTED_COMMENT.finditer(statement, start):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(statement)
