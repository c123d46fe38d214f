"""The settings: variables `VECTOR_BACKUP_*` of the environment, an `.env` file, and a YAML file.

The order of precedence: the environment, `.env` in the working directory, `.env` in
`DAGSTER_HOME`, the YAML file that `VECTOR_BACKUP_CONFIG` names (its keys are the names of the
fields). A blank value counts as not set.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.object_url import is_url, parse_object_url
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.prune import MAX_KEPT_SETS
from vector_backup_pipeline.parameters.table_names import split_tables
from vector_backup_pipeline.parameters.types import Tables

PREFIX = "VECTOR_BACKUP_"
DATABASE_URL_VARIABLE = PREFIX + "DB_URL"
API_TOKEN_VARIABLE = PREFIX + "API_TOKEN"
SECRET_KEY_VARIABLE = PREFIX + "SECRET_KEY"
CONFIG_VARIABLE = PREFIX + "CONFIG"

# What a header or a URL can carry unescaped.
_PLAIN = re.compile(r"[!-~]+")
_KEY_BYTES = 32
_DIRECTORY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_T = TypeVar("_T")


class SettingsError(InvalidParams):
    """A setting has an invalid value."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.variable = variable_of(field)
        self.reason = reason.rstrip(".") + "."
        super().__init__(f"{self.variable}: {self.reason}")


def variable_of(field: str) -> str:
    """The variable that sets a field."""
    return PREFIX + field.upper()


def _checked(check: Callable[[_T], object]) -> AfterValidator:
    """A validator that keeps the value if `check` raises no `InvalidParams`."""

    def validate(value: _T) -> _T:
        try:
            check(value)
        except InvalidParams as error:
            raise ValueError(error.message) from None
        return value

    return AfterValidator(validate)


def _check_root(root: str) -> None:
    if is_url(root):
        parse_object_url(root)


def _check_directory(name: str) -> None:
    if not _DIRECTORY_NAME.fullmatch(name):
        raise InvalidParams(f"{name!r} must be a plain directory name, not a path.")


def _check_timezone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise InvalidParams(f"{name!r} is not a time zone such as UTC or Asia/Shanghai.") from None


def _check_timestamp_format(pattern: str) -> None:
    try:
        TimestampFormat(pattern, ZoneInfo("UTC"))
    except ValueError as error:
        raise InvalidParams(str(error)) from error


def _address(url: str) -> str:
    """An address without its last slash. It may hold a password, so no error repeats it."""
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.scheme in ("http", "https")
        is_valid = is_valid and not (parts.query or parts.fragment) and parts.port != 0
        is_valid = is_valid and _PLAIN.fullmatch(url) is not None
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("it is not an address such as http://127.0.0.1:3000")
    return url.rstrip("/")


def _token(text: str) -> SecretText:
    if not _PLAIN.fullmatch(text):
        raise ValueError("only printable ASCII characters without blanks are allowed")
    return SecretText(text)


def _secret_key(text: str) -> SecretText:
    """In the URL-safe alphabet, whichever it was given in."""
    text = text.replace("+", "-").replace("/", "_")
    try:
        is_key = len(b64decode(text, altchars=b"-_", validate=True)) == _KEY_BYTES
    except ValueError:
        is_key = False
    if not is_key:
        raise ValueError("it is not 32 bytes in base64; create a key: openssl rand -base64 32")
    return SecretText(text)


def _parsed(parse: Callable[[str], object]) -> BeforeValidator:
    """A validator that parses a text and keeps what is parsed already."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _duration(text: str) -> Duration:
    return Duration.parse(text)


TableList = Annotated[Tables, NoDecode, _parsed(split_tables)]
Kept = Annotated[int, Field(ge=0, le=MAX_KEPT_SETS)]


class Settings(BaseSettings):
    """All settings. Each field is the variable `VECTOR_BACKUP_` plus its name in capitals, and has
    a default that works."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    db_url: Annotated[SecretText | None, _parsed(SecretText)] = Field(
        None,
        description="Connection string, read when a run connects and never stored. Default: "
        "libpq's environment (`PGHOST`, a service file, `.pgpass`).",
    )
    root: Annotated[str, _checked(_check_root)] = Field(
        "data_pipeline/training_data",
        description="Root of the backups: a path, or `s3://…`, `gs://…`, `az://…`.",
    )
    directory: Annotated[str, _checked(_check_directory)] = Field(
        "vector_bak", description="Name of the backup directory in the root and in each task."
    )
    part_size: Annotated[int | None, Field(ge=5, le=5120)] = Field(
        None,
        description="MiB of each part of an upload to object storage. Default: fits the table.",
    )
    tables: TableList = Field(
        ("langchain_pg_collection", "langchain_pg_embedding"),
        description="Tables to back up, comma-separated: `name` or `schema.name`.",
    )
    truncate_tables: TableList = Field(
        ("langchain_pg_embedding",),
        description="Tables that `truncate_vector_tables` empties, comma-separated.",
    )
    timestamp_format: Annotated[str, _checked(_check_timestamp_format)] = Field(
        DEFAULT_TIMESTAMP_FORMAT,
        description="Timestamp in file names. It must be safe there and sort by time.",
    )
    timezone: Annotated[str, _checked(_check_timezone)] = Field(
        "UTC", description="Time zone of file names, log and schedules."
    )
    lock_timeout: float = Field(
        30.0,
        # The server counts in milliseconds in 32 bits; 0 would wait for ever.
        ge=0.001,
        le=2_147_483,
        allow_inf_nan=False,
        description="Seconds to wait for a lock.",
    )
    cron: str = Field("0 2 * * *", description="When `daily_backup_schedule` runs.")
    schedule_enabled: bool = Field(
        False, description="Start `daily_backup_schedule` with the daemon."
    )
    verify_cron: str = Field("0 4 * * 0", description="When `weekly_verify_schedule` runs.")
    verify_schedule_enabled: bool = Field(
        False, description="Start `weekly_verify_schedule` with the daemon."
    )
    prune_cron: str = Field("30 4 * * *", description="When `daily_prune_schedule` runs.")
    prune_schedule_enabled: bool = Field(
        False, description="Start `daily_prune_schedule` with the daemon."
    )
    sensor_enabled: bool = Field(False, description="Start `task_directory_sensor`.")
    sensor_backfill: bool = Field(
        False, description="Let the sensor's first tick back up existing task directories."
    )
    keep_last: Kept = Field(0, description="Retention: the newest good sets.")
    keep_daily: Kept = Field(0, description="Retention: the newest good set of each of N days.")
    keep_weekly: Kept = Field(0, description="The same for weeks.")
    keep_monthly: Kept = Field(0, description="The same for months.")
    keep_yearly: Kept = Field(0, description="The same for years.")
    keep_within: Annotated[Duration | None, _parsed(_duration)] = Field(
        None, description="Retention: all sets of a time such as `14d` or `1y6m`."
    )
    prune_after_backup: bool = Field(
        False, description="Let each successful backup prune its own location."
    )
    dagster_url: Annotated[str, AfterValidator(_address)] = Field(
        "http://127.0.0.1:3000",
        # It may hold the user and password of a proxy.
        repr=False,
        description="Address of Dagster's webserver, for the REST API.",
    )
    dagster_location: str | None = Field(
        None,
        description="Code location of the runs that the REST API and the command line start. "
        "Default: the one with the jobs.",
    )
    api_token: Annotated[SecretText | None, _parsed(_token)] = Field(
        None,
        description="Token of the REST API. Default: none, and only this machine is served.",
    )
    secret_key: Annotated[SecretText | None, _parsed(_secret_key)] = Field(
        None,
        description="Key that encrypts connection strings between the REST API and the runs. "
        "Default: a file in `DAGSTER_HOME`.",
    )
    manifest_key: Annotated[SecretText | None, _parsed(SecretText)] = Field(
        None,
        description="Key that signs the manifests (HMAC-SHA256), any text. With it, unsigned or "
        "altered manifests are refused.",
    )

    @property
    def timestamps(self) -> TimestampFormat:
        return TimestampFormat(self.timestamp_format, ZoneInfo(self.timezone))

    @property
    def keep(self) -> KeepRules:
        return KeepRules(**{name: getattr(self, name) for name in KeepRules.__dataclass_fields__})

    @property
    def part_bytes(self) -> int | None:
        return None if self.part_size is None else self.part_size << 20

    @model_validator(mode="before")
    @classmethod
    def _strip_and_drop_blanks(cls, values: dict[str, Any]) -> dict[str, Any]:
        stripped = {
            name: value.strip() if isinstance(value, str) else value
            for name, value in values.items()
        }
        return {name: value for name, value in stripped.items() if value != ""}

    @field_validator("prune_after_backup")
    @classmethod
    def _check_that_a_rule_is_set(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not any(info.data.get(name) for name in KeepRules.__dataclass_fields__):
            raise ValueError(f"it is on, but no rule is set. Set {PREFIX}KEEP_LAST, too")
        return value

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        **_: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = os.environ.get("DAGSTER_HOME")
        files = [Path(home) / ".env"] if home else []
        dotenv = DotEnvSettingsSource(settings_cls, env_file=[*files, Path(".env")])
        config = InitSettingsSource(settings_cls, _read_config(cls))
        return init_settings, env_settings, dotenv, config


class _GivenSettings(Settings):
    """Settings from the arguments alone."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, _: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _read_config(settings: type[Settings]) -> dict[str, Any]:
    name = os.environ.get(CONFIG_VARIABLE, "").strip()
    if not name:
        return {}
    try:
        values = yaml.safe_load(Path(name).read_text())
    except OSError as error:
        raise SettingsError("config", f"cannot read {name}: {error.strerror}") from error
    except yaml.YAMLError:
        # Its text quotes the line, which may hold a password.
        raise SettingsError("config", f"{name} is not valid YAML") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError("config", f"{name} must hold keys and values")
    unknown = sorted(str(key) for key in values if key not in settings.model_fields)
    if unknown:
        raise SettingsError("config", f"{name} has unknown keys: {', '.join(unknown)}")
    return values


def known_variables() -> frozenset[str]:
    """The full names of all variables that are read."""
    return frozenset({CONFIG_VARIABLE, *map(variable_of, Settings.model_fields)})


def read_settings(
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, list[SettingsError]]:
    """Read the settings; with `environment`, from its variables alone. Fields with an invalid value
    have their defaults, and each has its error in the list.

    Raises:
        SettingsError: the YAML file can't be read.
    """
    kind = Settings if environment is None else _GivenSettings
    fields = {variable_of(field): field for field in Settings.model_fields}
    given: dict[str, Any] = {
        fields[name]: value for name, value in (environment or {}).items() if name in fields
    }
    errors: list[SettingsError] = []
    while True:
        try:
            return kind(**given), errors
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_input=False):
                field = str(error["loc"][0])
                errors.append(SettingsError(field, _reason(error)))
                given[field] = Settings.model_fields[field].default


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; with `environment`, from its variables alone.

    Raises:
        SettingsError: a value is invalid; the message names its variable.
    """
    settings, errors = read_settings(environment)
    if errors:
        raise errors[0]
    return settings


def _reason(error: ErrorDetails) -> str:
    cause = error.get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ValueError) else error["msg"]
