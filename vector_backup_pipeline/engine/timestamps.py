"""The timestamp in the names of a run's files: checks its format, writes it and reads it."""

import re
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from functools import lru_cache

from vector_backup_pipeline.engine.errors import InvalidParams

DEFAULT_TIMESTAMP_FORMAT = "%Y%m%d_%H%M%S"

# Stamps must sort by time, have one width, differ each second, and be safe in file names.
_TEXT = "[A-Za-z0-9_-]*"
_USABLE = re.compile(_TEXT.join(["", "%[Yy]", "(%m", "%d|%j)", "%H", "%M", "%S", "(%f)?", ""]))


# Called for each file of a directory, once for each kind of file that it may be.
@lru_cache(maxsize=10_000)
def _is_stamp(text: str, pattern: str) -> bool:
    try:
        parsed = datetime.strptime(text, pattern)  # noqa: DTZ007 - only its form counts
        return parsed.strftime(pattern) == text
    except ValueError:
        return False


@dataclass(frozen=True)
class TimestampFormat:
    """How a run's start is written into its files' names, in which time zone."""

    pattern: str
    timezone: tzinfo

    def __post_init__(self) -> None:
        if not _USABLE.fullmatch(self.pattern):
            raise InvalidParams(
                f"The timestamp format {self.pattern!r} does not sort by time, or is not safe in "
                "file names. It must have %Y, %m and %d (or %j), %H, %M and %S in this order, and "
                "otherwise only letters, digits, '_' and '-'. Use "
                f"{DEFAULT_TIMESTAMP_FORMAT!r} or a similar one."
            )

    def stamp(self, moment: datetime) -> str:
        return moment.astimezone(self.timezone).strftime(self.pattern)

    def now(self) -> datetime:
        return datetime.now(self.timezone)

    def moment(self, stamp: str) -> datetime:
        """The time that `stamp` names, in UTC."""
        local = datetime.strptime(stamp, self.pattern)  # noqa: DTZ007 - the next line adds it
        return local.replace(tzinfo=self.timezone).astimezone(timezone.utc)

    def is_stamp(self, text: str) -> bool:
        return _is_stamp(text, self.pattern)

    def at_end_of(self, stem: str) -> str | None:
        """The stamp that `stem` (a file name without its extensions) ends in, if any."""
        text = stem[-len(self.now().strftime(self.pattern)) :]
        return text if self.is_stamp(text) else None


DEFAULT_TIMESTAMPS = TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, timezone.utc)
