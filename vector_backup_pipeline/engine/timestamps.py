"""The timestamp that names a run's files: one format, checked once, found again in file names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

from vector_backup_pipeline.engine.errors import InvalidParams

DEFAULT_TIMESTAMP_FORMAT = "%Y%m%d_%H%M%S"

_SAFE_IN_FILE_NAMES = re.compile(r"[A-Za-z0-9_-]+")


def _utc(*parts: int) -> datetime:
    year, month, day, hour, minute, second = parts
    return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)


# Neighbouring instants whose stamps must differ, keep their width and sort by time: a second, and
# the turn of a minute, an hour, noon, a day, a month and a year.
_PROBES = [
    (_utc(2025, 3, 9, 9, 9, 9), _utc(2025, 3, 9, 9, 9, 10)),
    (_utc(2025, 3, 9, 9, 9, 59), _utc(2025, 3, 9, 9, 10, 0)),
    (_utc(2025, 3, 9, 9, 59, 59), _utc(2025, 3, 9, 10, 0, 0)),
    (_utc(2025, 3, 9, 12, 59, 59), _utc(2025, 3, 9, 13, 0, 0)),
    (_utc(2025, 3, 9, 23, 59, 59), _utc(2025, 3, 10, 0, 0, 0)),
    (_utc(2025, 9, 30, 23, 59, 59), _utc(2025, 10, 1, 0, 0, 0)),
    (_utc(2025, 12, 31, 23, 59, 59), _utc(2026, 1, 1, 0, 0, 0)),
]


@dataclass(frozen=True)
class TimestampFormat:
    """How a run's start is written into its files' names, in which time zone."""

    pattern: str
    timezone: tzinfo

    def __post_init__(self) -> None:
        for earlier, later in _PROBES:
            first, second = earlier.strftime(self.pattern), later.strftime(self.pattern)
            if not (first < second and len(first) == len(second)):
                raise InvalidParams(
                    f"The timestamp format {self.pattern!r} does not sort by time to the second "
                    f"({earlier} gives {first!r}, {later} gives {second!r}). "
                    f"Use {DEFAULT_TIMESTAMP_FORMAT!r} or one as complete."
                )
            if not _SAFE_IN_FILE_NAMES.fullmatch(first):
                raise InvalidParams(
                    f"The timestamp format {self.pattern!r} gives {first!r}: only letters, "
                    "digits, '_' and '-' are safe in file names."
                )
            if not self.is_stamp(first):
                raise InvalidParams(
                    f"The timestamp format {self.pattern!r} gives {first!r}, which can't be read "
                    "back, so a run's files could not be told from others. Use "
                    f"{DEFAULT_TIMESTAMP_FORMAT!r}."
                )

    def stamp(self, moment: datetime) -> str:
        return moment.astimezone(self.timezone).strftime(self.pattern)

    def now(self) -> datetime:
        return datetime.now(self.timezone)

    def moment(self, stamp: str) -> datetime:
        """The time that `stamp` names, in UTC."""
        local = datetime.strptime(stamp, self.pattern)  # noqa: DTZ007 - the next line adds it
        return local.replace(tzinfo=self.timezone).astimezone(timezone.utc)

    def candidates(self, moment: datetime, tries: int) -> list[str]:
        """The stamp of `moment`, then of each following second."""
        return [self.stamp(moment + timedelta(seconds=second)) for second in range(tries)]

    def is_stamp(self, text: str) -> bool:
        try:
            parsed = datetime.strptime(text, self.pattern)  # noqa: DTZ007 - only its form counts
            return parsed.strftime(self.pattern) == text
        except ValueError:
            return False

    def at_end_of(self, stem: str) -> str | None:
        """The stamp that `stem` (a file name without its extensions) ends in, if any."""
        width = len(_PROBES[0][0].strftime(self.pattern))
        text = stem[-width:]
        return text if self.is_stamp(text) else None
