"""The rules by which good sets are kept: so many, one a period, or all of some time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from vector_backup_pipeline.engine.errors import Problem, parameter_error
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.prune import PruneParameters

# By the name of their rule: what each period is called, so that two moments of one are equal.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda local: f"{local:%Y-%m-%d}",
    "weekly": lambda local: "{}-W{:02}".format(*local.isocalendar()[:2]),
    "monthly": lambda local: f"{local:%Y-%m}",
    "yearly": lambda local: f"{local:%Y}",
}
RULE_NAMES = ("keep_last", *(f"keep_{period}" for period in _PERIODS))

_NO_RULE = Problem(
    (*RULE_NAMES, "keep_within"),
    "are all 0 or not given, so no rule says which sets to keep, and hardly any would be kept. "
    "Give one of them, or set VECTOR_BACKUP_KEEP_LAST and its like.",
    is_missing=True,
)


@dataclass(frozen=True)
class KeepRules:
    """What keeps a good set; one rule is enough. 0 and None are rules that keep nothing."""

    keep_last: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: Duration | None = None

    def __bool__(self) -> bool:
        return bool(self.keep_within) or any(getattr(self, name) for name in RULE_NAMES)

    def __str__(self) -> str:
        """In words: `keep_last 7, keep_within 14d`."""
        numbers = [f"{name} {n}" for name in RULE_NAMES if (n := getattr(self, name))]
        within = [f"keep_within {self.keep_within}"] if self.keep_within else []
        return ", ".join([*numbers, *within])

    def but(self, parameters: PruneParameters) -> KeepRules:
        """These rules, with those that a caller gave in place of their own.

        Raises:
            MissingRequiredParams: no rule is left that keeps anything.
        """
        given = parameters.model_dump(include={*RULE_NAMES, "keep_within"}, exclude_none=True)
        if "keep_within" in given:
            given["keep_within"] = Duration.parse(given["keep_within"])
        rules = replace(self, **given)
        if not rules:
            raise parameter_error([_NO_RULE])
        return rules

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
