"""An index's storage parameters, as CREATE INDEX has them."""

from __future__ import annotations

from vector_backup_pipeline.engine.sql_tokens import scan


def without_options(statement: str) -> str:
    """A CREATE INDEX without its `WITH (…)`; any other statement as it is."""
    tokens = list(scan(statement))
    depth = 0
    for number, token in enumerate(tokens[:-1]):
        if depth == 0 and token.is_word("WITH") and tokens[number + 1].text == "(":
            end = next(each.end for each in tokens[number:] if each.text == ")")
            return statement[: token.start].rstrip() + statement[end:]
        depth += (token.text == "(") - (token.text == ")")
    return statement
