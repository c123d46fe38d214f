"""The settings: does each variable make sense, and is one misspelt?"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vector_backup_pipeline.engine.checkup.finding import Finding, failed_with, ok, warning
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.schedules import SCHEDULES
from vector_backup_pipeline.settings import (
    PREFIX,
    Settings,
    SettingsError,
    known_variables,
    read_settings,
    variable_of,
)

# VECTORBACKUP_ROOT is a misspelled setting, too.
_ALMOST_OURS = re.compile(r"VECTOR_?BACKUPS?_?(\w*)", re.IGNORECASE)


@dataclass(frozen=True)
class ReadEnvironment:
    """`settings` have their defaults where a value is invalid; `wrong` are those fields."""

    settings: Settings
    wrong: frozenset[str]
    findings: list[Finding]

    def makes_sense(self, *fields: str) -> bool:
        """Whether the fields of the settings are all valid."""
        return self.wrong.isdisjoint(fields)


def read_environment() -> ReadEnvironment:
    """Read what can be read; each invalid setting becomes a finding.

    Raises:
        SettingsError: the YAML file can't be read.
    """
    settings, errors = read_settings()
    for schedule in SCHEDULES:
        try:
            schedule.define(settings)
        except SettingsError as error:
            errors.append(error)
            default = Settings.model_fields[error.field].default
            settings = settings.model_copy(update={error.field: default})
    findings = [_wrong(error) for error in errors]
    findings += _unknown(os.environ)
    findings += _relative_root(settings)
    if not findings:
        findings.append(ok("settings", "environment", _summary(settings)))
    return ReadEnvironment(settings, frozenset(error.field for error in errors), findings)


def _wrong(error: SettingsError) -> Finding:
    # The finding's name already says which setting it is about.
    return failed_with("settings", error.variable, InvalidParams(error.reason))


def _summary(settings: Settings) -> str:
    variables = sorted(map(variable_of, settings.model_fields_set))
    if not variables:
        return "all settings have their defaults"
    return f"all settings are valid: {', '.join(variables)}"


def _unknown(environment: Mapping[str, str]) -> Iterator[Finding]:
    known = {name.removeprefix(PREFIX) for name in known_variables()}
    for name in sorted(environment):
        # Case does not matter to pydantic-settings.
        if name.upper() in known_variables():
            continue
        match = _ALMOST_OURS.fullmatch(name)
        if match is None:
            continue
        near = difflib.get_close_matches(match.group(1).upper(), known, n=1)
        yield warning(
            "settings",
            name,
            "is set, but there is no such setting: nothing reads it",
            f"Did you mean {PREFIX}{near[0]}?" if near else "See the settings in docs/settings.md.",
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
