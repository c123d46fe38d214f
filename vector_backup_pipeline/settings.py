"""The environment, read and typed once. Every variable begins with `VECTOR_BACKUP`.

| variable | default | meaning |
|---|---|---|
| `VECTOR_BACKUP_DB_URL` | none | connection string; read when a run connects, never stored |
| `VECTOR_BACKUP_ROOT` | `data_pipeline/training_data` | where backups go: a path or a URL |
| `VECTOR_BACKUP_DIRECTORY` | `vector_bak` | name of the backup directory in the root or a task |
| `VECTOR_BACKUP_PART_SIZE` | fits the table | MiB of each part of an upload to object storage |
| `VECTOR_BACKUP_TABLES` | LangChain's two tables | comma-separated |
| `VECTOR_BACKUP_TRUNCATE_TABLES` | `langchain_pg_embedding` | comma-separated |
| `VECTOR_BACKUP_TIMESTAMP_FORMAT` | `%Y%m%d_%H%M%S` | of file names |
| `VECTOR_BACKUP_TIMEZONE` | `UTC` | of file names, log and schedule |
| `VECTOR_BACKUP_CRON` | `0 2 * * *` | of the daily schedule |
| `VECTOR_BACKUP_SCHEDULE_ENABLED` | false | the schedule runs without being switched on in the UI |
| `VECTOR_BACKUP_SENSOR_ENABLED` | false | the same for the task directory sensor |
| `VECTOR_BACKUP_SENSOR_BACKFILL` | false | the sensor's first tick backs up what is there already |
| `VECTOR_BACKUP_VERIFY_CRON` | `0 4 * * 0` | of the weekly verification of every set |
| `VECTOR_BACKUP_VERIFY_SCHEDULE_ENABLED` | false | it runs without being switched on in the UI |
| `VECTOR_BACKUP_KEEP_LAST` | 0 | good sets that a prune keeps in each place: so many, |
| `VECTOR_BACKUP_KEEP_DAILY` | 0 | the newest of so many days, |
| `VECTOR_BACKUP_KEEP_WEEKLY` | 0 | of weeks, |
| `VECTOR_BACKUP_KEEP_MONTHLY` | 0 | of months, |
| `VECTOR_BACKUP_KEEP_YEARLY` | 0 | of years, |
| `VECTOR_BACKUP_KEEP_WITHIN` | none | and all of a time, such as `14d` or `1y6m` |
| `VECTOR_BACKUP_PRUNE_CRON` | `30 4 * * *` | of the daily prune |
| `VECTOR_BACKUP_PRUNE_SCHEDULE_ENABLED` | false | it runs without being switched on in the UI |
| `VECTOR_BACKUP_PRUNE_AFTER_BACKUP` | false | each successful backup prunes its own place |
| `VECTOR_BACKUP_LOCK_TIMEOUT` | 30 | seconds to wait for a lock |
| `VECTOR_BACKUP_DAGSTER_URL` | `http://127.0.0.1:3000` | where the API finds Dagster's webserver |
| `VECTOR_BACKUP_DAGSTER_LOCATION` | the one with the jobs | code location of the API's runs |
| `VECTOR_BACKUP_API_TOKEN` | none | who calls the API has to know it |
| `VECTOR_BACKUP_SECRET_KEY` | a file in DAGSTER_HOME | seals connections between API and runs |
"""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.parameters import check_tables
from vector_backup_pipeline.engine.retention.rules import (
    MOST_KEPT,
    RULE_NAMES,
    Duration,
    KeepRules,
)
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.object_url import is_url, parse_object_url
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat

PREFIX = "VECTOR_BACKUP_"
DATABASE_URL_VARIABLE = PREFIX + "DB_URL"
API_TOKEN_VARIABLE = PREFIX + "API_TOKEN"
SECRET_KEY_VARIABLE = PREFIX + "SECRET_KEY"

_DEFAULT_TABLES = "langchain_pg_collection,langchain_pg_embedding"
_DEFAULT_TRUNCATE_TABLES = "langchain_pg_embedding"
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off", ""}
_TABLE_IN_LIST = re.compile(r'(?:"(?:[^"]|"")*"|[^,"])+')
# What a header or a URL can carry as it is.
_PLAIN = re.compile(r"[!-~]+")
_KEY_BYTES = 32
_DIRECTORY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class SettingsError(InvalidParams):
    """A variable of the environment does not make sense: `variable`, in full."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"{variable}: {reason}.")
        self.variable = variable


@dataclass(frozen=True)
class Settings:
    """What the environment says; every field has a default that works."""

    root: str
    directory: str
    part_size: int | None
    tables: tuple[str, ...]
    truncate_tables: tuple[str, ...]
    timestamps: TimestampFormat
    timezone: str
    cron: str
    schedule_enabled: bool
    sensor_enabled: bool
    sensor_backfill: bool
    verify_cron: str
    verify_schedule_enabled: bool
    keep: KeepRules
    prune_cron: str
    prune_schedule_enabled: bool
    prune_after_backup: bool
    lock_timeout: float
    # It may hold a user and a password of whatever stands before Dagster.
    dagster_url: str = field(repr=False)
    dagster_location: str | None
    api_token: SecretText | None
    secret_key: SecretText | None


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environment` (the process's own by default).

    Raises:
        SettingsError: a value does not make sense; the message names its variable.
    """
    return _read(_Source(os.environ if environment is None else environment))


def _read(source: _Source) -> Settings:
    timezone = source.text("TIMEZONE", "UTC")
    keep = _keep(source)
    return Settings(
        root=_root(source),
        directory=_directory(source),
        part_size=_part_size(source),
        tables=_tables(source, "TABLES", _DEFAULT_TABLES),
        truncate_tables=_tables(source, "TRUNCATE_TABLES", _DEFAULT_TRUNCATE_TABLES),
        timestamps=_timestamps(source, timezone),
        timezone=timezone,
        cron=source.text("CRON", "0 2 * * *"),
        schedule_enabled=source.flag("SCHEDULE_ENABLED"),
        sensor_enabled=source.flag("SENSOR_ENABLED"),
        sensor_backfill=source.flag("SENSOR_BACKFILL"),
        verify_cron=source.text("VERIFY_CRON", "0 4 * * 0"),
        verify_schedule_enabled=source.flag("VERIFY_SCHEDULE_ENABLED"),
        keep=keep,
        prune_cron=source.text("PRUNE_CRON", "30 4 * * *"),
        prune_schedule_enabled=source.flag("PRUNE_SCHEDULE_ENABLED"),
        prune_after_backup=_prune_after_backup(source, keep),
        lock_timeout=source.seconds("LOCK_TIMEOUT", 30.0),
        dagster_url=_dagster_url(source),
        dagster_location=source.text("DAGSTER_LOCATION", "") or None,
        api_token=_api_token(source),
        secret_key=_secret_key(source),
    )


def known_variables() -> frozenset[str]:
    """The full names of all variables that are read."""
    source = _Source({})
    _read(source)
    return frozenset({DATABASE_URL_VARIABLE, *(PREFIX + name for name in source.asked)})


def split_tables(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; a comma inside double quotes belongs to its name."""
    return tuple(part.strip() for part in _TABLE_IN_LIST.findall(text) if part.strip())


class _Source:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.asked: set[str] = set()

    def text(self, name: str, default: str) -> str:
        self.asked.add(name)
        return self._environment.get(PREFIX + name, "").strip() or default

    def flag(self, name: str) -> bool:
        value = self.text(name, "false").lower()
        if value not in _TRUE | _FALSE:
            raise wrong(name, f"{value!r} is neither true nor false")
        return value in _TRUE

    def number(self, name: str) -> int:
        value = self.text(name, "0")
        # int() alone would take "1_000", " 7" and digits of other scripts too.
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise wrong(name, f"{value!r} is not a number of backup sets, such as 7")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        try:
            seconds = float(value)
        except ValueError as error:
            raise wrong(name, f"{value!r} is not a number of seconds") from error
        # The server counts lock_timeout in milliseconds in 32 bits, and 0 would wait for ever.
        if not 0.001 <= seconds <= 2_147_483:
            raise wrong(name, f"{value} is out of range: give 0.001 to 2147483 seconds")
        return seconds


def wrong(name: str, reason: str) -> SettingsError:
    """The error for the variable `VECTOR_BACKUP_{name}`."""
    return SettingsError(PREFIX + name, reason)


def _root(source: _Source) -> str:
    root = source.text("ROOT", "data_pipeline/training_data")
    if is_url(root):
        try:
            parse_object_url(root)
        except InvalidParams as error:
            # The URL itself is not repeated: there may be a password in it.
            raise wrong("ROOT", str(error).rstrip(".")) from None
    return root


def _part_size(source: _Source) -> int | None:
    """In bytes. S3 takes parts of 5 MiB to 5 GiB."""
    value = source.text("PART_SIZE", "")
    if not value:
        return None
    if not (value.isdecimal() and 5 <= int(value) <= 5120):
        raise wrong("PART_SIZE", f"{value!r} is not a whole number of MiB from 5 to 5120")
    return int(value) << 20


def _directory(source: _Source) -> str:
    directory = source.text("DIRECTORY", "vector_bak")
    if not _DIRECTORY_NAME.fullmatch(directory):
        raise wrong("DIRECTORY", f"{directory!r} must be a plain directory name, not a path")
    return directory


def _tables(source: _Source, name: str, default: str) -> tuple[str, ...]:
    tables = split_tables(source.text(name, default))
    try:
        check_tables(tables)
    except InvalidParams as error:
        raise wrong(name, str(error).rstrip(".")) from error
    return tables


def _keep(source: _Source) -> KeepRules:
    numbers = {}
    for name in RULE_NAMES:
        numbers[name] = source.number(name.upper())
        if numbers[name] > MOST_KEPT:
            raise wrong(name.upper(), f"{numbers[name]} is out of range: give 0 to {MOST_KEPT}")
    text = source.text("KEEP_WITHIN", "")
    try:
        return KeepRules(**numbers, keep_within=Duration.parse(text) if text else None)
    except InvalidParams as error:
        raise wrong("KEEP_WITHIN", str(error).rstrip(".")) from error


def _prune_after_backup(source: _Source, keep: KeepRules) -> bool:
    is_wanted = source.flag("PRUNE_AFTER_BACKUP")
    if is_wanted and not keep:
        raise wrong(
            "PRUNE_AFTER_BACKUP",
            "it is on, but no rule says what to keep; set VECTOR_BACKUP_KEEP_LAST or its like too",
        )
    return is_wanted


def _dagster_url(source: _Source) -> str:
    url = source.text("DAGSTER_URL", "http://127.0.0.1:3000")
    try:
        parts = urlsplit(url)
        makes_sense = bool(parts.hostname) and parts.scheme in ("http", "https")
        makes_sense = makes_sense and not (parts.query or parts.fragment) and parts.port != 0
        makes_sense = makes_sense and _PLAIN.fullmatch(url) is not None
    except ValueError:
        makes_sense = False
    if not makes_sense:
        # Not repeated: there may be a password in it.
        raise wrong("DAGSTER_URL", "it is no address such as http://127.0.0.1:3000")
    return url.rstrip("/")


def _api_token(source: _Source) -> SecretText | None:
    token = source.text("API_TOKEN", "")
    if token and not _PLAIN.fullmatch(token):
        raise wrong("API_TOKEN", "it may only have printable ASCII characters, and no blanks")
    return SecretText(token) if token else None


def _secret_key(source: _Source) -> SecretText | None:
    """In the URL-safe alphabet, whichever it was given in."""
    text = source.text("SECRET_KEY", "").replace("+", "-").replace("/", "_")
    if not text:
        return None
    try:
        is_key = len(b64decode(text, altchars=b"-_", validate=True)) == _KEY_BYTES
    except ValueError:
        is_key = False
    if not is_key:
        raise wrong("SECRET_KEY", "it is not 32 bytes in base64; make one: openssl rand -base64 32")
    return SecretText(text)


def _timestamps(source: _Source, timezone: str) -> TimestampFormat:
    try:
        zone = ZoneInfo(timezone)
    except (OSError, ValueError, KeyError) as error:
        raise wrong(
            "TIMEZONE", f"{timezone!r} is not a time zone such as UTC or Asia/Shanghai"
        ) from error
    try:
        return TimestampFormat(source.text("TIMESTAMP_FORMAT", DEFAULT_TIMESTAMP_FORMAT), zone)
    except (InvalidParams, ValueError) as error:
        raise wrong("TIMESTAMP_FORMAT", str(error).rstrip(".")) from error
