"""Calendar durations, such as `14d`, `1y6m` or `36h`."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

DURATION_PATTERN = "^([0-9]{1,6}[ymdh])+$"


@dataclass(frozen=True)
class Duration:
    """Years, months, days and hours, as a calendar counts them."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a sequence of numbers with `y`, `m`, `d` or `h`. Raises `ValueError`."""
        if not re.fullmatch(DURATION_PATTERN, text):
            raise ValueError(f"{text[:40]!r} is not a time such as 14d, 1y6m or 36h.")
        units = dict.fromkeys("ymdh", 0)
        for number, unit in re.findall(r"(\d+)(\w)", text):
            units[unit] += int(number)
        return cls(*units.values())

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))

    def __str__(self) -> str:
        numbers = zip((self.years, self.months, self.days, self.hours), "ymdh", strict=True)
        return "".join(f"{number}{unit}" for number, unit in numbers if number) or "0d"

    def before(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The moment this long before `moment` in that time zone; None if it is before year 1.

        A day that a month does not have becomes the month's last one.
        """
        local = moment.astimezone(zone).replace(tzinfo=None)
        years, month = divmod(local.year * 12 + local.month - 1 - self.years * 12 - self.months, 12)
        try:
            day = min(local.day, calendar.monthrange(years, month + 1)[1])
            start = local.replace(year=years, month=month + 1, day=day) - timedelta(days=self.days)
            return start.replace(tzinfo=zone).astimezone(timezone.utc) - timedelta(hours=self.hours)
        except (ValueError, OverflowError, calendar.IllegalMonthError):
            return None
