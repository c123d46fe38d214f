"""The settings: variables `VECTOR_BACKUP_*` of the environment, an `.env` file, files of secrets,
and a YAML file."""

from __future__ import annotations

import os
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from vector_backup_pipeline import setting_types as types
from vector_backup_pipeline.engine.encryption import Encryption, read_recipients
from vector_backup_pipeline.engine.errors import InvalidParams, Problem, parameter_error
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.object_url import is_url
from vector_backup_pipeline.engine.storage.root import REQUESTS, BackupRoot
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.model import Documented, requirement
from vector_backup_pipeline.parameters.types import BackupMode, Compression, Format
from vector_backup_pipeline.targets import TargetsFile

PREFIX = "VECTOR_BACKUP_"
DATABASE_URL_VARIABLE = PREFIX + "DB_URL"
# Where Docker and Kubernetes mount secrets.
_MOUNTED_SECRETS = "/run/secrets"
API_TOKEN_VARIABLE = PREFIX + "API_TOKEN"
SECRET_KEY_VARIABLE = PREFIX + "SECRET_KEY"


class SettingsError(InvalidParams):
    """A setting has an invalid value."""

    def __init__(self, field: str, reason: str) -> None:
        self.variable = variable_of(field)
        self.reason = reason.rstrip(".") + "."
        super().__init__(f"{self.variable}: {self.reason}")


def variable_of(field: str) -> str:
    """The variable that sets a field."""
    return PREFIX + field.upper()


def _absolute(root: str) -> str:
    """A root with a slash at its end, for comparing it with others. Links are not followed: what
    the installation's root contains counts."""
    absolute = root if is_url(root) else os.path.abspath(root)  # noqa: PTH100 - pathlib keeps ".."
    return absolute.rstrip("/") + "/"


class Settings(Documented, BaseSettings):
    """All settings. A field is the variable `VECTOR_BACKUP_` plus its name in capitals, and has a
    default that works. A blank value counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    config: str | None = None
    """YAML file with settings, such as `root: /backups`."""
    db_url: types.Secret | None = None
    """Connection string, read when a run connects and never stored. Default: libpq's environment
    (`PGHOST`, a service file, `.pgpass`)."""
    root: types.Root = Field("data_pipeline/training_data", pattern=r"\S")
    """Root of the backups: a path, or `s3://…`, `gs://…`, `az://…`."""
    directory: str = Field("vector_bak", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    """Name of the backup directory in the root and in each task."""
    part_size: Annotated[int | None, Field(ge=5, le=5120)] = None
    """MiB per part of an upload. Default: derived from the table's size."""
    tables: types.TableList = ("langchain_pg_collection", "langchain_pg_embedding")
    """Tables to back up, comma-separated: `name` or `schema.name`."""
    truncate_tables: types.TableList = ("langchain_pg_embedding",)
    """Tables that `truncate_vector_tables` truncates, comma-separated."""
    timestamp_format: types.TimestampPattern = DEFAULT_TIMESTAMP_FORMAT
    """Format of timestamps in file names (strftime). They must sort by time and have only letters,
    digits, `_` and `-`."""
    timezone: types.TimeZone = "UTC"
    """Time zone of file names, log and schedules."""
    # The server stores milliseconds in 32 bits; 0 would disable the timeout.
    lock_timeout: float = Field(30.0, ge=0.001, le=2_147_483, allow_inf_nan=False)
    """Seconds to wait for a lock."""
    cron: str = "0 2 * * *"
    """When `daily_backup_schedule` runs."""
    schedule_enabled: bool = False
    """Start `daily_backup_schedule`."""
    verify_cron: str = "0 4 * * 0"
    """When `weekly_verify_schedule` runs."""
    verify_schedule_enabled: bool = False
    """Start `weekly_verify_schedule`."""
    drill_cron: str = "0 5 * * 0"
    """When `weekly_drill_schedule` runs."""
    drill_schedule_enabled: bool = False
    """Start `weekly_drill_schedule`."""
    prune_cron: str = "30 4 * * *"
    """When `daily_prune_schedule` runs."""
    prune_schedule_enabled: bool = False
    """Start `daily_prune_schedule`."""
    sensor_enabled: bool = False
    """Start `task_directory_sensor`."""
    sensor_backfill: bool = False
    """Let the sensor also back up existing task directories."""
    requests_enabled: bool = False
    """Start `request_file_sensor`: a backup for each request file."""
    keep_last: types.Kept = 0
    """Retention: the newest good sets."""
    keep_daily: types.Kept = 0
    """Retention: the newest good set of each day."""
    keep_weekly: types.Kept = 0
    """Retention: the newest good set of each week."""
    keep_monthly: types.Kept = 0
    """Retention: the newest good set of each month."""
    keep_yearly: types.Kept = 0
    """Retention: the newest good set of each year."""
    keep_within: types.Period | None = None
    """Retention: all sets made within a time such as `14d` or `1y6m`."""
    format: Format = "csv"
    """Format of the files: `csv` or `binary`."""
    compression: Compression = "none"
    """Compression of the files: `none`, `gzip` or `zstd`."""
    mode: BackupMode = "full"
    """How backups are made: `full`, `incremental` or `auto`."""
    full_every: types.Period = Duration(days=7)
    """With mode `auto`, the age of a chain's full set after which the next backup is full."""
    consolidate_after: int = Field(0, ge=0)
    """Number of sets in a chain from which a backup also consolidates it into a full set. 0:
    never."""
    prune_after_backup: bool = False
    """Let each backup prune its own location."""
    max_age: types.Period = Duration(hours=26)
    """Age from which the last good backup of a table is stale, such as `26h` or `8d`. `0d`:
    never."""
    max_drop: float = Field(50.0, gt=0, le=100)
    """Percentage of its rows that a table may lose from one backup to the next before the check
    `row_count_drop` warns."""
    targets: str | None = None
    """YAML file that describes the targets, to back up several databases."""
    alert_urls: types.AlertUrls | None = None
    """Receivers of alerts: Apprise URLs, separated by commas, such as `mailto://…`, `slack://…`,
    `dingtalk://…`, `json://…`."""
    heartbeat_url: types.HeartbeatUrl | None = None
    """Address that is called after each complete backup, such as
    `https://hc-ping.com/your-uuid`."""
    ui_url: types.WebAddress | None = None
    """Address of Dagster's UI, for links in alerts."""
    # It may hold the user and password of a proxy.
    dagster_url: types.WebAddress = Field("http://127.0.0.1:3000", repr=False)
    """Address of Dagster's webserver, for the REST API."""
    dagster_location: str | None = None
    """Code location of the runs that the REST API and the command line start. Default: the one with
    the jobs."""
    api_token: types.Token | None = None
    """Token of the REST API. Default: none; only local calls are accepted."""
    secret_key: types.SecretKey | None = None
    """Key that encrypts connection strings between the REST API and the runs. Default: a file in
    `DAGSTER_HOME`."""
    manifest_key: types.Secret | None = None
    """Key that signs the manifests (HMAC-SHA256), any text. With it, unsigned or altered manifests
    are refused."""
    encrypt_to: types.Recipients | None = None
    """Recipients of new files: public keys of age (`age1…`) or SSH, comma-separated, or the path of
    a file with one per line. Default: no encryption."""
    identity_file: types.IdentityFile | None = None
    """File with the identities (private keys) that decrypt files. Full backups do not need it."""

    _target: str | None = PrivateAttr(None)
    _connection_variable: str = PrivateAttr(DATABASE_URL_VARIABLE)

    @property
    def target(self) -> str | None:
        """The target that these settings are of; None for those of the installation."""
        return self._target

    @property
    def is_used(self) -> bool:
        """Whether backups are expected. An installation with targets may have none of its own."""
        return self.target is not None or self.targets is None or self.schedule_enabled

    @property
    def connection_variable(self) -> str:
        """The environment variable with the connection string, which `db_url` has."""
        return self._connection_variable

    @cached_property
    def _targets_file(self) -> TargetsFile | None:
        if self.targets is None:
            return None
        try:
            # `daily_backup_schedule` is the installation's.
            file = TargetsFile(self.targets, Target, reserved=("daily", self.directory, REQUESTS))
        except OSError as error:
            raise SettingsError(
                "targets", f"cannot read {self.targets}: {error.strerror}"
            ) from error
        except ValueError as error:
            raise SettingsError("targets", str(error)) from None
        # Backups of another target would count for a target's alerts and retention.
        default = self.root.rstrip("/")
        roots = sorted(
            (_absolute(t.root if "root" in t.model_fields_set else f"{default}/{name}"), name)
            for name, t in file.targets.items()
        )
        for (outer, other), (inner, name) in pairwise(roots):
            if inner.startswith(outer):
                reason = f"root is the root of target {other}, or inside it"
                raise SettingsError("targets", str(file.error((name, "root"), reason)))
        return file

    @cached_property
    def _dotenv_variables(self) -> dict[str, str | None]:
        return dict(_dotenv(type(self)).env_vars)

    def _variable(self, name: str | None) -> SecretText | None:
        """Of the environment, of an `.env` file, or of a file of secrets."""
        if name is None:
            return None
        text = os.environ.get(name) or self._dotenv_variables.get(name.lower())
        for directory in [] if text else reversed(_secret_directories()):
            if path := SecretsSettingsSource.find_case_path(directory, name, case_sensitive=False):
                text = path.read_text("utf-8")
                break
        return SecretText(text.strip()) if text else None

    def for_target(self, name: str | None) -> Settings:
        """The settings of a target: these, with its overrides. These for None.

        Raises:
            SettingsError: the file of targets is malformed.
            InvalidParams: there is no such target.
        """
        if name is None:
            return self
        known = self._targets_file.targets if self._targets_file else {}
        if name not in known:
            names = ", ".join([*known][:10]) or "none; set it to the file of targets"
            text = f"is {name[:100]!r}. Known from {variable_of('targets')}: {names}."
            raise parameter_error([Problem(("target",), text)])
        target = known[name]
        values: dict[str, Any] = {"root": f"{self.root.rstrip('/')}/{name}"}
        for model in (target, target.retention):
            values |= {key: getattr(model, key) for key in model.model_fields_set}
        values["db_url"] = self._variable(target.connection)
        values["alert_urls"] = self._variable(target.alerts) or self.alert_urls
        values["schedule_enabled"] = bool(target.schedule)
        values["cron"] = target.schedule or self.cron
        fields = Settings.model_fields
        settings = self.model_copy(update={k: v for k, v in values.items() if k in fields})
        settings._target, settings._connection_variable = name, target.connection
        try:
            if settings.alert_urls is not None:
                types.check_alert_urls(settings.alert_urls.reveal())
        except ValueError as error:
            raise settings.target_error("alerts", f"{target.alerts}: {error}") from None
        return settings

    def with_targets(self) -> list[Settings]:
        """These settings, and those of each target. Raises `SettingsError`."""
        names = self._targets_file.targets if self._targets_file else ()
        return [self, *map(self.for_target, names)]

    def target_error(self, key: str, reason: str) -> SettingsError:
        """What is wrong at a key of this target."""
        assert self._targets_file is not None and self.target is not None  # noqa: S101 - for mypy
        error = self._targets_file.error((self.target, key), f"{key}: {reason}")
        return SettingsError("targets", str(error))

    @property
    def timestamps(self) -> TimestampFormat:
        return TimestampFormat(self.timestamp_format, ZoneInfo(self.timezone))

    @property
    def keep_rules(self) -> KeepRules:
        return KeepRules(**{name: getattr(self, name) for name in KeepRules.__dataclass_fields__})

    @property
    def backup_defaults(self) -> dict[str, Any]:
        """What a backup does if its caller does not say otherwise."""
        names = ("tables", "truncate_tables", "format", "compression", "mode")
        return {name: getattr(self, name) for name in names} | {"full_every": str(self.full_every)}

    @property
    def encryption(self) -> Encryption:
        recipients = read_recipients(self.encrypt_to) if self.encrypt_to else ()
        return Encryption(recipients, self.identity_file)

    def open_root(self) -> BackupRoot:
        """The root of the backups. Raises `InvalidParams` if it is malformed."""
        return BackupRoot(
            self.root,
            self.directory,
            timestamps=self.timestamps,
            reserved=self._folders_of_targets(),
            part_size=None if self.part_size is None else self.part_size << 20,
            manifest_key=self.manifest_key,
            encryption=self.encryption,
        )

    def _folders_of_targets(self) -> set[str]:
        """The folders in the root that are no tasks of this database, but hold other targets."""
        inside = _absolute(self.root)
        others = self.with_targets() if self.target is None else ()
        roots = [_absolute(other.root) for other in others]
        paths = {root.removeprefix(inside) for root in roots if root.startswith(inside)}
        return {path.split("/")[0] for path in paths if path}

    @model_validator(mode="before")
    @classmethod
    def _strip_and_drop_blanks(cls, values: dict[str, Any]) -> dict[str, Any]:
        texts = {key: value.strip() for key, value in values.items() if isinstance(value, str)}
        return {key: value for key, value in (values | texts).items() if value != ""}

    # Called by keyword; the sources that are not used are in `_`, which mypy does not accept.
    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        **_: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In order of precedence: the environment, `.env` in the working directory, `.env` in
        `DAGSTER_HOME`, files of secrets, the YAML file."""
        dotenv = _dotenv(settings_cls)
        config = (dotenv() | env_settings()).get("config", "").strip()
        values = _read_yaml(config) if config else {}
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=_secret_directories())
        return (
            init_settings,
            env_settings,
            dotenv,
            secrets,
            InitSettingsSource(settings_cls, values),
        )


def _secret_directories() -> list[Path]:
    """The directories of secrets that exist: those that are mounted, and the credentials that
    systemd passes to a service, which take precedence."""
    names = (_MOUNTED_SECRETS, os.environ.get("CREDENTIALS_DIRECTORY"))
    return [path for path in map(Path, filter(None, names)) if path.is_dir()]


def _dotenv(settings_class: type[BaseSettings]) -> DotEnvSettingsSource:
    home = os.environ.get("DAGSTER_HOME")
    files = [Path(home) / ".env"] if home else []
    return DotEnvSettingsSource(settings_class, env_file=[*files, Path(".env")])


def _overrides(*names: str) -> dict[str, Any]:
    """Fields of a target, which are checked as in `Settings`."""
    fields = Settings.model_fields
    return {name: (fields[name].annotation, fields[name]) for name in names}


_STRICT = ConfigDict(
    strict=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True
)
_Retention: Any = create_model(
    "Retention", __config__=_STRICT, **_overrides(*KeepRules.__dataclass_fields__)
)
_VariableName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
_VARIABLE = "Give the name of the environment variable with {}, not the value itself."
# A database of several, as the file describes it.
Target = create_model(
    "Target",
    __config__=_STRICT,
    connection=(_VariableName, Field(description=_VARIABLE.format("the connection string"))),
    **_overrides(
        "root",
        "tables",
        "truncate_tables",
        "mode",
        "full_every",
        "format",
        "compression",
        "timezone",
        "max_age",
        "max_drop",
    ),
    schedule=(str | None, Field(None)),
    retention=(_Retention, Field(_Retention())),
    alerts=(_VariableName | None, Field(None, description=_VARIABLE.format("Apprise URLs"))),
)


def _read_yaml(name: str) -> dict[str, Any]:
    try:
        values = dict(yaml.safe_load(Path(name).read_text()) or {})
    except OSError as error:
        raise SettingsError("config", f"cannot read {name}: {error.strerror}") from error
    except (yaml.YAMLError, TypeError, ValueError):
        # Its text quotes the line, which may hold a password.
        raise SettingsError("config", f"{name} is not YAML with keys and values") from None
    if unknown := sorted(str(key) for key in values if key not in Settings.model_fields):
        raise SettingsError("config", f"{name} has unknown keys: {', '.join(unknown)}")
    return values


def read_settings(**values: Any) -> tuple[Settings, list[SettingsError]]:
    """Read the settings; `values` of fields take precedence. A field with an invalid value gets its
    default and an error in the list. Raises `SettingsError` if the YAML file cannot be read."""
    errors: list[SettingsError] = []
    while True:
        try:
            return Settings(**values), errors
        except ValidationError as invalid:
            for detail in invalid.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                field = Settings.model_fields[name]
                errors.append(SettingsError(name, requirement(detail, field)))
                values[name] = field.default


def load_settings(*, target: str | None = None, **values: Any) -> Settings:
    """Read the settings, or those of a target; see `Settings.for_target`. Raises `SettingsError`
    for the first invalid value."""
    settings, errors = read_settings(**values)
    if errors:
        raise errors[0]
    return settings.for_target(target)
