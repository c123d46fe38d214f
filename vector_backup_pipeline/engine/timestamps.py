"""The timestamp in the names of a run's files: checks its format, writes it and reads it."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from vector_backup_pipeline.engine.errors import InvalidParams

DEFAULT_TIMESTAMP_FORMAT = "%Y%m%d_%H%M%S"

_SAFE_IN_FILE_NAMES = re.compile(r"[A-Za-z0-9_-]+")
# A second before and after these, stamps must differ, have one width and sort by time: the turn of
# a second, a minute, an hour, noon, a day, a month and a year.
_TURNS = (
    datetime(2025, 3, 9, 9, 9, 10, tzinfo=timezone.utc),
    datetime(2025, 3, 9, 9, 10, tzinfo=timezone.utc),
    datetime(2025, 3, 9, 10, tzinfo=timezone.utc),
    datetime(2025, 3, 9, 13, tzinfo=timezone.utc),
    datetime(2025, 3, 10, tzinfo=timezone.utc),
    datetime(2025, 10, 1, tzinfo=timezone.utc),
    datetime(2026, 1, 1, tzinfo=timezone.utc),
)


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
        for later in _TURNS:
            earlier = later - timedelta(seconds=1)
            first, second = earlier.strftime(self.pattern), later.strftime(self.pattern)
            if not (first < second and len(first) == len(second)):
                problem = f"does not sort by time: {earlier} is {first!r}, {later} is {second!r}"
            elif not _SAFE_IN_FILE_NAMES.fullmatch(first):
                problem = f"is {first!r}: only letters, digits, '_' and '-' are safe in file names"
            elif not self.is_stamp(first):
                problem = f"is {first!r}, which cannot be read back"
            else:
                continue
            raise InvalidParams(
                f"The timestamp format {self.pattern!r} {problem}. Use "
                f"{DEFAULT_TIMESTAMP_FORMAT!r} or another complete one."
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
        text = stem[-len(_TURNS[0].strftime(self.pattern)) :]
        return text if self.is_stamp(text) else None


DEFAULT_TIMESTAMPS = TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, timezone.utc)
