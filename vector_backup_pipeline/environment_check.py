"""The settings: does each variable make sense, and is one misspelt?"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vector_backup_pipeline.engine.checkup.finding import Finding, failed_with, ok, warning
from vector_backup_pipeline.schedules import make_daily_backup_schedule, make_weekly_verify_schedule
from vector_backup_pipeline.settings import (
    PREFIX,
    Settings,
    SettingsError,
    known_variables,
    load_settings,
)

# VECTORBACKUP_ROOT and vector_backup_root are meant for us, too.
_ALMOST_OURS = re.compile(r"VECTOR_?BACKUPS?_?(\w*)", re.IGNORECASE)


@dataclass(frozen=True)
class ReadEnvironment:
    """`settings` have their defaults where a variable is wrong; `wrong` are those variables."""

    settings: Settings
    wrong: frozenset[str]
    findings: list[Finding]

    def makes_sense(self, *names: str) -> bool:
        """Whether the variables `VECTOR_BACKUP_{name}` are all as they should be."""
        return not any(PREFIX + name in self.wrong for name in names)


def read_environment(environment: Mapping[str, str]) -> ReadEnvironment:
    """Read what can be read; whatever is wrong becomes a finding, one a variable."""
    left, errors = dict(environment), list[SettingsError]()
    while True:
        try:
            settings = load_settings(left)
            make_daily_backup_schedule(settings)
            make_weekly_verify_schedule(settings)
            break
        except SettingsError as error:
            if left.pop(error.variable, None) is None:
                raise
            errors.append(error)
    findings = [_wrong(error) for error in errors]
    findings += _unknown(environment)
    findings += _relative_root(settings)
    if not findings:
        findings.append(ok("settings", "environment", _told(environment)))
    return ReadEnvironment(settings, frozenset(e.variable for e in errors), findings)


def _wrong(error: SettingsError) -> Finding:
    told = failed_with("settings", error.variable, error)
    # Its name stands before the message anyway.
    return replace(told, message=told.message.removeprefix(f"{error.variable}: "))


def _told(environment: Mapping[str, str]) -> str:
    given = sorted(known_variables() & environment.keys())
    if not given:
        return f"no {PREFIX}* variable is set: everything has its default"
    return f"each variable makes sense: {', '.join(given)}"


def _unknown(environment: Mapping[str, str]) -> Iterator[Finding]:
    known = {name.removeprefix(PREFIX) for name in known_variables()}
    for name in sorted(environment.keys() - known_variables()):
        match = _ALMOST_OURS.fullmatch(name)
        if match is None:
            continue
        near = difflib.get_close_matches(match.group(1).upper(), known, n=1)
        yield warning(
            "settings",
            name,
            "is set, but there is no such setting: nothing reads it",
            f"Did you mean {PREFIX}{near[0]}?" if near else "See the settings in the README.",
        )


def _relative_root(settings: Settings) -> Iterator[Finding]:
    if "://" in settings.root or Path(settings.root).is_absolute():
        return
    yield warning(
        "settings",
        f"{PREFIX}ROOT",
        f"the root {settings.root} is relative: from here it is {Path(settings.root).absolute()}, "
        "and another one for a daemon that was started elsewhere",
        f"Set {PREFIX}ROOT to an absolute path.",
    )
