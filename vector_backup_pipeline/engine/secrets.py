"""Connection strings and passwords: a type that does not print itself, and redaction."""

from collections.abc import Iterable

REDACTED = "***"
# A shorter secret would redact ordinary words ("a", "db") and make messages unreadable.
_SHORTEST_REDACTED = 3


class SecretText:
    """A text that only `reveal` shows: `str`, `repr`, logs and tracebacks see `***`.

    It does not pickle, so no event or IO manager can store it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"SecretText({REDACTED!r})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("A secret is not stored.")


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret replaced, the longest first (one may contain another)."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_REDACTED:
            text = text.replace(secret, REDACTED)
    return text
