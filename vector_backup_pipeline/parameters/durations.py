"""Times as calendars count them."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

_DURATION = re.compile("".join(rf"(?:([0-9]{{1,6}}){unit})?" for unit in "ymdh"))


@dataclass(frozen=True)
class Duration:
    """A time as calendars count it, such as `14d`, `1y6m` or `36h`."""

    years: int
    months: int
    days: int
    hours: int

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read years, months, days and hours, in this order, each optional.

        Raises:
            ValueError: it is no such text, or is empty.
        """
        found = _DURATION.fullmatch(text)
        if found is None or not text:
            raise ValueError(
                f"is {text[:40]!r}; give years, months, days and hours in this order, such as 14d, "
                "1y6m or 36h."
            )
        return cls(*(int(number or 0) for number in found.groups()))

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))

    def __str__(self) -> str:
        numbers = zip((self.years, self.months, self.days, self.hours), "ymdh", strict=True)
        return "".join(f"{number}{unit}" for number, unit in numbers if number) or "0d"

    def before(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The moment that lies this time before `moment` in that zone; None before all years.

        A day that a month does not have is its last one.
        """
        local = moment.astimezone(zone).replace(tzinfo=None)
        years, month = divmod(local.year * 12 + local.month - 1 - self.years * 12 - self.months, 12)
        try:
            day = min(local.day, calendar.monthrange(years, month + 1)[1])
            wall = local.replace(year=years, month=month + 1, day=day) - timedelta(days=self.days)
            begin = wall.replace(tzinfo=zone).astimezone(timezone.utc)
            return begin - timedelta(hours=self.hours)
        except (ValueError, OverflowError, calendar.IllegalMonthError):
            return None
