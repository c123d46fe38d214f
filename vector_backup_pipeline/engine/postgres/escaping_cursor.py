"""A cursor whose parameters can't collide with a `%` in a name."""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import cursor
from psycopg2.sql import Composable, Composed, Identifier, Literal


class EscapingCursor(cursor):
    """psycopg2 formats a statement with `%` when it has parameters, so a `%` in a composed name or
    literal must then be doubled. Every connection of the engine has this cursor."""

    def execute(self, query: str | bytes | Composable, vars: Any = None) -> None:
        if vars is not None and isinstance(query, Composable):
            query = self._escaped(query)
        super().execute(query, vars)

    def _escaped(self, part: Composable) -> str:
        if isinstance(part, Composed):
            return "".join(map(self._escaped, part.seq))
        text: str = part.as_string(self)
        return text.replace("%", "%%") if isinstance(part, Identifier | Literal) else text
