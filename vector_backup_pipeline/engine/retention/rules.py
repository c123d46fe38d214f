"""The rules by which good sets are kept: so many, one a period, or all of some time."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo

from vector_backup_pipeline.engine.errors import InvalidParams

_DURATION = re.compile("".join(rf"(?:([0-9]{{1,6}}){unit})?" for unit in "ymdh"))

# By the name of their rule: what each period is called, so that two moments of one are equal.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda local: f"{local:%Y-%m-%d}",
    "weekly": lambda local: "{}-W{:02}".format(*local.isocalendar()[:2]),
    "monthly": lambda local: f"{local:%Y-%m}",
    "yearly": lambda local: f"{local:%Y}",
}
RULE_NAMES = ("keep_last", *(f"keep_{period}" for period in _PERIODS))
MOST_KEPT = 1_000_000


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
            InvalidParams: it is no such text, or says nothing.
        """
        found = _DURATION.fullmatch(text)
        if found is None or not text:
            raise InvalidParams(
                f"keep_within is {text!r}; give years, months, days and hours in this order, such "
                "as 14d, 1y6m or 36h."
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


@dataclass(frozen=True)
class KeepRules:
    """What keeps a good set; one rule is enough. 0 and None are rules that keep nothing."""

    keep_last: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: Duration | None = None

    def __post_init__(self) -> None:
        for name in RULE_NAMES:
            number = getattr(self, name)
            if not 0 <= number <= MOST_KEPT:
                raise InvalidParams(f"{name} is {number}; it must be from 0 to {MOST_KEPT}.")

    def __bool__(self) -> bool:
        return bool(self.keep_within) or any(getattr(self, name) for name in RULE_NAMES)

    def __str__(self) -> str:
        """In words: `keep_last 7, keep_within 14d`."""
        numbers = [f"{name} {n}" for name in RULE_NAMES if (n := getattr(self, name))]
        within = [f"keep_within {self.keep_within}"] if self.keep_within else []
        return ", ".join([*numbers, *within])

    def but(self, *, keep_within: Duration | None, **given: int | None) -> KeepRules:
        """These rules, with those that a caller gave in place of their own."""
        numbers = {name: number for name, number in given.items() if number is not None}
        within = self.keep_within if keep_within is None else keep_within
        return replace(self, keep_within=within, **numbers)

    def keeping(self, moments: Sequence[datetime], zone: tzinfo) -> list[list[str]]:
        """For each of the moments of the good sets, newest first, which rules keep it."""
        reasons: list[list[str]] = [[] for _ in moments]
        for position in range(min(self.keep_last, len(moments))):
            reasons[position].append(f"one of the last {self.keep_last}")
        for name, period_of in _PERIODS.items():
            wanted: int = getattr(self, f"keep_{name}")
            for position, period in _newest_of_each(moments, zone, period_of):
                if wanted <= 0:
                    break
                wanted -= 1
                reasons[position].append(f"{name} {period}")
        for position, moment in enumerate(moments):
            if self.is_within(moment, moments[0], zone):
                reasons[position].append(f"within {self.keep_within} of the newest good set")
        return reasons

    def is_within(self, moment: datetime, newest: datetime, zone: tzinfo) -> bool:
        if not self.keep_within:
            return False
        begin = self.keep_within.before(newest, zone)
        return begin is None or moment > begin


def _newest_of_each(
    moments: Sequence[datetime], zone: tzinfo, period_of: Callable[[datetime], str]
) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for position, moment in enumerate(moments):
        period = period_of(moment.astimezone(zone))
        if period not in seen:
            seen.add(period)
            yield position, period
