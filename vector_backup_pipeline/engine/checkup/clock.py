"""The clocks: this machine's, the database server's, the storage's; and the time zone.

Files are named by this machine's clock, and a run elsewhere counts as dead when its last sign of
life is older than `DEAD_AFTER` by ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.storage.contract import DEAD_AFTER

# Clocks that are set by NTP differ by less.
_NOTABLE = timedelta(seconds=5)
_ADVICE = (
    "Switch on time synchronisation (NTP) on both machines: timedatectl set-ntp true. Files are "
    "named by this machine's clock, and whether a run elsewhere is alive is judged by it."
)


def clock_ahead(ask: Callable[[], datetime], now: Callable[[], datetime]) -> timedelta:
    """How far another clock is before ours."""
    before = now()
    told = ask()
    return ahead_of(told, before, now())


def ahead_of(told: datetime, before: datetime, after: datetime) -> timedelta:
    """The same, of what another clock told between two moments of ours: half-way, as one takes the
    way there and back to be equally long."""
    return told - (before + (after - before) / 2)


def check_clock(
    plan: CheckPlan, server_ahead: timedelta | None, storage_ahead: timedelta | None
) -> Iterator[Finding]:
    """Hold the clocks against each other; None is one that could not be read."""
    if server_ahead is None:
        yield skipped("clock", "server", "there is no connection to the database")
    else:
        yield _compared("server", "the database server's", server_ahead)
    if storage_ahead is not None:
        yield _compared("storage", "the storage's", storage_ahead)
    if plan.timestamps is None:
        yield skipped("clock", "time zone", "the settings do not tell it")
    else:
        moment = plan.now().astimezone(plan.timestamps.timezone)
        yield ok(
            "clock",
            "time zone",
            f"it is {moment:%Y-%m-%d %H:%M:%S} in {plan.timestamps.timezone} (UTC{moment:%z}); a "
            f"backup made now would be called {plan.timestamps.stamp(moment)}",
        )


def _compared(name: str, whose: str, ahead: timedelta) -> Finding:
    off = abs(ahead)
    if off <= _NOTABLE:
        return ok("clock", name, f"{whose} clock agrees with this machine's ({_seconds(off)})")
    side = "ahead of" if ahead > timedelta() else "behind"
    make = failed if off > DEAD_AFTER else warning
    return make("clock", name, f"{whose} clock is {_seconds(off)} {side} this machine's", _ADVICE)


def _seconds(off: timedelta) -> str:
    return f"{off.total_seconds():.1f} s"
