"""The check of an installation: its settings, a dry run of a backup, Dagster."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus

from vector_backup_pipeline.alerts import deliver, load_apprise
from vector_backup_pipeline.engine.checkup import check_backup
from vector_backup_pipeline.engine.checkup.finding import Finding, failed, from_error, ok, warning
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, MissingExtra
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.storage.object_url import is_url
from vector_backup_pipeline.launch import dagster_instance
from vector_backup_pipeline.parameters.backup import BackupParameters, CheckParameters
from vector_backup_pipeline.resources import PostgresResource
from vector_backup_pipeline.schedules import schedules_of
from vector_backup_pipeline.settings import (
    PREFIX,
    Settings,
    SettingsError,
    read_settings,
    variable_of,
)


def check_installation(
    parameters: CheckParameters, *, send_alerts: bool = False
) -> Iterator[Finding]:
    """Yield each finding as soon as it is known. With invalid settings, only they are checked.
    `send_alerts` sends a test alert to each receiver.

    Raises:
        InvalidParams: a parameter is invalid; raised before the first finding.
        RunCancelled: the check was interrupted.
    """
    installation, errors = read_settings()
    settings = installation
    try:
        settings = installation.for_target(parameters.target)
        errors += _malformed_schedules(installation)
    except SettingsError as error:
        errors.append(error)
    postgres = PostgresResource()
    if parameters.db_connection is not None:
        postgres.connection_settings(settings, parameters.db_connection)
    findings = [failed("settings", error.variable, error.reason) for error in errors]
    findings += _unknown_variables()
    if not is_url(settings.root) and not Path(settings.root).is_absolute():
        message = (
            f"the path {settings.root} is relative to the working directory: here it is "
            f"{Path(settings.root).absolute()}, for Dagster's daemon it may be another directory"
        )
        findings.append(warning("settings", PREFIX + "ROOT", message, "Set an absolute path."))
    variables = ", ".join(sorted(map(variable_of, installation.model_fields_set)))
    summary = f"valid: {variables}" if variables else "all settings have their defaults"
    yield from findings or [ok("settings", "environment", summary)]
    if errors:
        return
    try:
        connection = postgres.connection_settings(settings, parameters.db_connection)
    except InvalidParams as error:
        yield from_error("settings", settings.connection_variable, error)
        return
    try:
        root = settings.open_root()
    except BackupError as error:
        yield from_error("settings", PREFIX + "ROOT", error)
        return
    backup = BackupParameters(**dict(parameters))
    request = backup.completed(settings.backup_defaults)
    yield from _truncate_finding(backup, settings)
    if settings.mode != "full":
        yield from _key_file_finding()
    yield from check_backup(request, connection, root, settings.lock_timeout)
    yield from check_dagster(installation)
    yield from check_alerts(settings, send=send_alerts)


def _malformed_schedules(settings: Settings) -> Iterator[SettingsError]:
    for schedule, owner in schedules_of(settings):
        try:
            schedule.define(owner)
        except SettingsError as error:
            yield error


def _unknown_variables() -> Iterator[Finding]:
    known = {name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        # pydantic-settings ignores the case.
        suffix = name.upper().removeprefix(PREFIX)
        if suffix == name.upper() or suffix in known:
            continue
        near = difflib.get_close_matches(suffix, known, n=1)
        advice = f"Did you mean {PREFIX}{near[0]}?" if near else "See docs/settings.md."
        yield warning("settings", name, "unknown setting, which has no effect", advice)


def _truncate_finding(backup: BackupParameters, settings: Settings) -> Iterator[Finding]:
    """A warning if a backup with truncate would be refused."""
    parameters = {**dict(backup), "truncate_vector_tables": True}
    try:
        BackupParameters(**parameters).completed(settings.backup_defaults)
    except InvalidParams as error:
        yield from_error("settings", PREFIX + "TRUNCATE_TABLES", error, "warning")


def _key_file_finding() -> Iterator[Finding]:
    """A failure if key files can't be written, as backups of this mode do."""
    try:
        with KeyFiles.open(["id"]):
            pass
    except BackupError as error:
        yield from_error("settings", PREFIX + "MODE", error)


def check_dagster(settings: Settings) -> Iterator[Finding]:
    """Check that the instance of DAGSTER_HOME can be opened, and that its daemon is running if a
    schedule is on."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        yield warning(
            "dagster",
            "instance",
            "DAGSTER_HOME is not set: no run history is kept, and no schedules run",
            "Set DAGSTER_HOME to a directory (vector-backup init), or start backups with cron.",
        )
        return
    try:
        with dagster_instance() as instance:
            daemon = _daemon_finding(instance, settings)
    except InvalidParams as error:
        yield from_error("dagster", "instance", error)
    except Exception as error:  # noqa: BLE001 - of any storage that Dagster supports
        # The message may repeat the configuration, with its password.
        yield failed(
            "dagster",
            "instance",
            f"the instance in {home} cannot be opened ({type(error).__name__})",
            "Check its dagster.yaml and the storage named there: dagster instance info",
        )
    else:
        yield ok("dagster", "instance", f"the run history is stored in {home}")
        yield daemon


def check_alerts(settings: Settings, *, send: bool) -> Iterator[Finding]:
    """Check that alerts can be sent, with a test alert to each receiver if requested."""
    variable = variable_of("alert_urls")
    if settings.alert_urls is None:
        if send:
            yield failed("alerts", variable, "not set: there is no receiver", "See docs/alerts.md.")
        return
    try:
        load_apprise()
    except MissingExtra as error:
        yield from_error("alerts", variable, error)
        return
    if not send:
        yield ok("alerts", variable, "set; to send a test alert: vector-backup check --alerts")
        return
    text = "This is a test: alerts of vector-backup arrive here."
    for number, (scheme, is_reached) in enumerate(deliver(settings, "Test alert", text), 1):
        name = f"{number}. {scheme}://"
        if is_reached:
            yield ok("alerts", name, "a test alert was sent")
        else:
            advice = f"Check the address and its token in {variable}, and the network."
            yield failed("alerts", name, "the test alert was not accepted", advice)


def _daemon_finding(instance: DagsterInstance, settings: Settings) -> Finding:
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    # A schedule that was started or stopped in the UI ignores the settings.
    by_hand = {InstigatorStatus.RUNNING: True, InstigatorStatus.STOPPED: False}
    is_on = {s.instigator_name: by_hand[s.status] for s in states if s.status in by_hand}
    running_schedules = [
        schedule.name
        for schedule, owner in schedules_of(settings)
        if is_on.get(schedule.name, getattr(owner, schedule.enabled))
    ]
    if not running_schedules:
        return ok("dagster", "daemon", "not needed: all schedules are stopped")
    names = ", ".join(running_schedules[:5]) + ", …" * (len(running_schedules) > 5)
    status = instance.get_daemon_statuses().get("SCHEDULER")
    if status is None or not status.healthy:
        return warning(
            "dagster",
            "daemon",
            f"not running, so these schedules start no runs: {names}",
            "Start it: dagster-daemon run -w workspace.yaml",
        )
    return ok("dagster", "daemon", f"running; schedules: {names}")
