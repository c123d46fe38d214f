"""The retention rules: the newest sets, one for each of the last periods, or all within a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from vector_backup_pipeline.engine.errors import Problem, parameter_error
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.prune import PruneParameters

# By its rule's name: the name of the period that a local time is in.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda local: f"{local:%Y-%m-%d}",
    "weekly": lambda local: "{}-W{:02}".format(*local.isocalendar()[:2]),
    "monthly": lambda local: f"{local:%Y-%m}",
    "yearly": lambda local: f"{local:%Y}",
}
RULE_NAMES = ("keep_last", *(f"keep_{period}" for period in _PERIODS))

_NO_RULE = Problem(
    (*RULE_NAMES, "keep_within"),
    "are all 0 or missing, so no rule says which sets to keep. Give one of them, or set "
    "VECTOR_BACKUP_KEEP_LAST or another VECTOR_BACKUP_KEEP_ variable.",
    is_missing=True,
)


@dataclass(frozen=True)
class KeepRules:
    """A good set is kept if any rule keeps it. 0 and None disable a rule."""

    keep_last: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: Duration | None = None

    def __bool__(self) -> bool:
        return bool(self.keep_within) or any(getattr(self, name) for name in RULE_NAMES)

    def __str__(self) -> str:
        """Such as `keep_last 7, keep_within 14d`."""
        names = [name for name in (*RULE_NAMES, "keep_within") if getattr(self, name)]
        return ", ".join(f"{name} {getattr(self, name)}" for name in names)

    def overridden_by(self, parameters: PruneParameters) -> KeepRules:
        """These rules, except for those that the parameters have. Raises `MissingRequiredParams` if
        every rule is disabled."""
        overrides = parameters.model_dump(include={*RULE_NAMES, "keep_within"}, exclude_none=True)
        if "keep_within" in overrides:
            overrides["keep_within"] = Duration.parse(overrides["keep_within"])
        rules = replace(self, **overrides)
        if not rules:
            raise parameter_error([_NO_RULE])
        return rules

    def reasons(self, moments: Mapping[str, datetime], zone: tzinfo) -> dict[str, list[str]]:
        """The reasons to keep each good set. `moments` are the creation times, newest first."""
        reasons: dict[str, list[str]] = {stamp: [] for stamp in moments}
        for stamp in list(moments)[: self.keep_last]:
            reasons[stamp].append(f"one of the last {self.keep_last}")
        for name, period_of in _PERIODS.items():
            newest: dict[str, str] = {}
            for stamp, moment in moments.items():
                newest.setdefault(period_of(moment.astimezone(zone)), stamp)
            for period in list(newest)[: getattr(self, f"keep_{name}")]:
                reasons[newest[period]].append(f"{name} {period}")
        newest_moment = next(iter(moments.values()), None)
        for stamp, moment in moments.items():
            if newest_moment and self.is_within(moment, newest_moment, zone):
                reasons[stamp].append(f"within {self.keep_within} of the newest good set")
        return reasons

    def is_within(self, moment: datetime, newest: datetime, zone: tzinfo) -> bool:
        """Whether `keep_within` keeps a set created at `moment`."""
        if not self.keep_within:
            return False
        begin = self.keep_within.before(newest, zone)
        return begin is None or moment > begin
