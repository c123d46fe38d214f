"""Alerts: their causes, the state of what was sent, and the sending.

    the end of a run ─┐
    the catalog ──────┴▶ causes ─▶ state: which are new, which are over ─▶ messages

The state is a file beside the backups of the root, so that the daemon and the commands that cron
starts share it. A message reports a change of the state, so each cause is reported once.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import contextmanager
from datetime import datetime, timezone
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from vector_backup_pipeline.engine.catalog.contents import read_contents, stamp_of_file
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet, stored_sets
from vector_backup_pipeline.engine.errors import (
    BackupError,
    MissingExtra,
    ResourceNotFound,
    RunCancelled,
    StorageError,
)
from vector_backup_pipeline.engine.file_names import ALERTS_NAME, stamp_of_manifest
from vector_backup_pipeline.engine.results import BackupResult, RunResult
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.store import version_of
from vector_backup_pipeline.operations import Operation
from vector_backup_pipeline.outcome import RunOutcome
from vector_backup_pipeline.setting_types import split_urls
from vector_backup_pipeline.settings import Settings

# A store is asked for a minute, and Dagster ends the evaluation of a sensor after a minute.
_STORAGE_SECONDS = 20.0
_HEARTBEAT_SECONDS = 10.0
# Before each of its calls.
HEARTBEAT_PAUSES = (0.0, 1.0, 3.0)
_MAX_CAUSES_IN_MESSAGE = 20

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# The sets of each location, as read when its files had this version.
_known_sets: dict[str, tuple[str, list[StoredSet]]] = {}


class Cause(BaseModel):
    """A problem that is reported. With another `identity`, it is another problem under the same
    key. `is_sent` is False if no receiver was reached."""

    title: str
    message: str
    where: str
    advice: str
    run: str | None = None
    identity: str = ""
    since: AwareDatetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    is_sent: bool = True


# The state: the reported causes that are not over, by key.
CAUSES = TypeAdapter(dict[str, Cause])


def run_succeeded(
    settings: Settings, operation: Operation, result: RunResult, task_id: str | None
) -> None:
    """Call the heartbeat after a good backup, and report that an earlier failure is over. Raises
    nothing."""
    is_backup = isinstance(result, BackupResult)
    if getattr(result, "dry_run", False) or not getattr(result, "backup_performed", True):
        return
    with _logging_errors():
        if is_backup and settings.heartbeat_url is not None:
            _call_heartbeat(settings.heartbeat_url.reveal())
        if settings.alert_urls is not None:
            _report_changes(settings, {}, _key(settings, operation.name, task_id).__eq__)


def run_failed(
    settings: Settings, operation: Operation, outcome: RunOutcome, task_id: str | None, run_id: str
) -> None:
    """Report a failed run, unless its cause was reported before. Raises nothing."""
    if settings.alert_urls is None or outcome.error_type in (None, RunCancelled.error_type):
        return
    with _logging_errors():
        result = outcome.result or {}
        entries = {**result.get("tables_backed_up", {}), **result.get("restore_results", {})}
        tables = sorted(table for table, entry in entries.items() if not entry["success"])
        location = settings.open_root().location
        cause = Cause(
            title=f"{operation.name.capitalize()} failed: {outcome.error_type}",
            message=str(outcome.message),
            where=f"{location}, task {task_id}" if task_id else location,
            advice="Fix the cause and run it again. Most causes are found by: vector-backup check",
            run=f"{settings.ui_url}/runs/{run_id}" if settings.ui_url else run_id,
            identity=" ".join([str(outcome.error_type), *tables]),
        )
        key = _key(settings, operation.name, task_id)
        sets = [_key_of(settings, v) for v in result.get("sets", ()) if not v["passed"]]
        try:
            # The sets are the causes, unless their verdicts could not be stored.
            if not sets or not watch(settings).issuperset(sets):
                _report_changes(settings, {key: cause}, key.__eq__)
        except (StorageError, ResourceNotFound) as error:
            _log.error(
                "The state of alerts is not available, so this alert may be repeated. %s", error
            )
            send(settings, [cause])


def _key_of(settings: Settings, verdict: Mapping[str, Any]) -> str:
    """The key of a set that failed its verification."""
    kind = "not restorable" if verdict["files_passed"] else "damaged"
    return _key(settings, kind, f"{verdict['backup_path']} {verdict['timestamp']}")


def watch_after_command(settings: Settings) -> None:
    """`watch`, for installations without a daemon. Raises nothing."""
    if settings.alert_urls is not None:
        with _logging_errors():
            watch(settings)


def watch(settings: Settings) -> set[str]:
    """Report stale backups, damaged sets and failed restore tests, and which of them are over.
    Returns the keys of those that are not.

    Raises:
        MissingExtra: Apprise is not installed.
        ResourceNotFound: the root does not exist.
        StorageError: a directory or the state can't be read.
    """
    root, is_used = settings.open_root(), settings.is_used
    if not is_used and _with_timeout(lambda: root.find_path(root.location)) is None:
        return set()
    _with_timeout(lambda: check_root(root))
    causes: dict[str, Cause] = {}
    newest: dict[str, datetime] = {}
    for _, directory in find_directories(root):
        for backup in _sets_of(directory):
            is_used = True
            for kind, message in _problems(backup):
                key = _key(settings, kind, f"{directory.location} {backup.stamp}")
                causes[key] = Cause(
                    title=f"{kind.capitalize()}: backup set {backup.stamp}",
                    message=message,
                    where=directory.location,
                    advice=f"Make a new backup. For details: vector-backup verify {backup.stamp} "
                    f"--backup-path {directory.location}",
                )
            for table in settings.tables if backup.state == "complete" else ():
                if backup.files_named(table):
                    newest[table] = max(backup.created_at, newest.get(table, backup.created_at))
    now = settings.timestamps.now()
    oldest = settings.max_age.before(now, settings.timestamps.timezone)
    for table in settings.tables if is_used and settings.max_age else ():
        if oldest is not None and (table not in newest or newest[table] < oldest):
            causes[_key(settings, "stale", table)] = Cause(
                title=f"Stale: backup of {table}",
                message=f"The last good backup is older than {settings.max_age}."
                if table in newest
                else "There is no good backup.",
                where=root.location,
                advice="Check the schedule. To list the backups: vector-backup list",
                since=newest.get(table, now),
            )
    kinds = tuple(_key(settings, kind, None) for kind in ("stale", "damaged", "not restorable"))
    _report_changes(settings, causes, lambda key: key.startswith(kinds))
    return set(causes)


def _sets_of(directory: BackupDirectory) -> list[StoredSet]:
    """The sets of a directory. They are read only if their files have changed."""
    timestamps, files = directory.timestamps, directory.files()
    stamps = {stamp_of_manifest(file.name, timestamps) for file in files} - {None}
    of_sets = [file for file in files if stamp_of_file(file.name, timestamps) in stamps]
    version = version_of(*((file.name, file.version) for file in of_sets))
    known_version, sets = _known_sets.get(directory.location, (None, []))
    if version != known_version:
        sets = stored_sets(read_contents(directory))
        _known_sets[directory.location] = version, sets
    return sets


def _problems(backup: StoredSet) -> Iterator[tuple[str, str]]:
    """The kind of each problem of a set, and what a message says about it."""
    if backup.source is None:
        yield "damaged", "Its manifest can't be read."
    elif backup.broken_files:
        yield "damaged", f"Missing, or of another size: {', '.join(backup.broken_files)}."
    elif backup.is_damaged:
        yield "damaged", "Its files don't match its manifest."
    elif backup.broken_base is not None:
        yield "damaged", f"The set {backup.broken_base} that it builds on is missing or damaged."
    if backup.drill is not None and not backup.drill.passed:
        yield "not restorable", "Its restore test failed."


def _key(settings: Settings, kind: str, subject: str | None) -> str:
    """The key of a cause. Without a subject, what all keys of the kind begin with."""
    return f"{kind} {settings.target or ''}: {subject or ''}"


def _report_changes(
    settings: Settings, causes: Mapping[str, Cause], is_watched: Callable[[str], bool]
) -> None:
    """Send the new causes, and those watched ones that are over. The process that changes the
    state sends the message, so that no other does."""
    load_apprise()
    opened: dict[str, Cause] = {}
    over: dict[str, Cause] = {}

    def change(data: bytes) -> bytes | None:
        nonlocal opened, over
        known = _parse(data)
        over = {k: cause for k, cause in known.items() if is_watched(k) and k not in causes}
        rest = {k: cause for k, cause in known.items() if k not in over}
        opened = {k: cause for k, cause in rest.items() if not cause.is_sent}
        for key, cause in causes.items():
            if key not in rest or rest[key].identity != cause.identity:
                opened[key] = cause
        return _with(rest, opened, is_sent=True) if opened or over else None

    def save() -> BackupDirectory:
        root = settings.open_root()
        check_root(root)  # It is not created: that would hide that a disk is not mounted.
        directory = root.open(None)
        directory.update(ALERTS_NAME, change)
        return directory

    directory = _with_timeout(save)
    if opened and not send(settings, opened.values()):
        directory.update(ALERTS_NAME, lambda data: _with(_parse(data), opened, is_sent=False))
    solved = {key: cause for key, cause in over.items() if cause.is_sent}
    if solved and not send(settings, solved.values(), are_over=True):
        directory.update(ALERTS_NAME, lambda data: _with(_parse(data), solved, is_sent=True))


def _parse(data: bytes) -> dict[str, Cause]:
    """The content of the state file; nothing if there is none, or one of another version."""
    try:
        return CAUSES.validate_json(data)
    except ValidationError:
        return {}


def _with(known: dict[str, Cause], causes: Mapping[str, Cause], *, is_sent: bool) -> bytes:
    """The state with these causes added."""
    marked = {k: cause.model_copy(update={"is_sent": is_sent}) for k, cause in causes.items()}
    return CAUSES.dump_json(known | marked, indent=1)


def send(settings: Settings, causes: Collection[Cause], *, are_over: bool = False) -> bool:
    """Send one message about all causes; whether a receiver was reached."""
    titles = [cause.title for cause in causes]
    title = titles[0] if len(titles) == 1 else f"{len(titles)} problems with backups"
    title += f" ({settings.target})" if settings.target else ""
    parts = []
    for cause in list(causes)[:_MAX_CAUSES_IN_MESSAGE]:
        since = cause.since.astimezone(settings.timestamps.timezone)
        lines = [cause.message] if len(titles) == 1 else [cause.title, cause.message]
        lines += [f"Since: {since:%Y-%m-%d %H:%M %Z}", f"Where: {cause.where}"]
        lines += [f"Run: {cause.run}"] if cause.run else []
        parts.append("\n".join(lines if are_over else [*lines, f"Next: {cause.advice}"]))
    if len(titles) > len(parts):
        parts.append(f"And {len(titles) - len(parts)} more: vector-backup list")
    title = f"Solved: {title}" if are_over else title
    sent = list(deliver(settings, title, "\n\n".join(parts), is_good=are_over))
    for scheme, is_reached in sent:
        if not is_reached:
            _log.error("An alert was not sent: the receiver %s:// was not reached.", scheme)
    return any(is_reached for _, is_reached in sent)


def deliver(
    settings: Settings, title: str, body: str, *, is_good: bool = True
) -> Iterator[tuple[str, bool]]:
    """Send a message to each receiver: its scheme, and whether it was reached."""
    apprise = load_apprise()
    urls = split_urls(settings.alert_urls.reveal()) if settings.alert_urls else []
    for url in urls:
        receiver = apprise.Apprise(asset=apprise.AppriseAsset(app_id="vector-backup"))
        try:
            is_reached = receiver.add(url) and receiver.notify(
                title=title,
                body=body,
                notify_type=apprise.NotifyType.SUCCESS if is_good else apprise.NotifyType.FAILURE,
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception:  # noqa: BLE001 - of any plugin; its text may hold the URL
            is_reached = False
        scheme, _, address = url.partition("://")
        yield scheme if address else "(malformed)", bool(is_reached)


def load_apprise() -> Any:
    """The package; raises `MissingExtra` without it."""
    try:
        import apprise
    except ImportError as error:
        raise MissingExtra("Alerts need the package apprise.", "alerts") from error
    # It logs URLs, and urllib3 their paths: these hold passwords and tokens.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.INFO)
    return apprise


def _call_heartbeat(url: str) -> None:
    reason = ""
    for pause in HEARTBEAT_PAUSES:
        time.sleep(pause)
        try:
            with urlopen(url, timeout=_HEARTBEAT_SECONDS):  # noqa: S310 - http, as settings check
                return
        except (OSError, HTTPException) as error:
            # Its text may hold the URL.
            reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else type(error).__name__
    _log.error("Could not call VECTOR_BACKUP_HEARTBEAT_URL: %s", reason)


def _with_timeout(action: Callable[[], _T]) -> _T:
    """Its value. Raises `StorageError` if it takes too long; it may still be done later."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(action).result(_STORAGE_SECONDS)
    except NoAnswer:
        raise StorageError(f"The storage did not answer for {_STORAGE_SECONDS:.0f} s.") from None
    finally:
        pool.shutdown(wait=False)


@contextmanager
def _logging_errors() -> Iterator[None]:
    """Log an error: an alert fails no run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of any kind
        # The text of an error that is not ours may hold a URL.
        reason = error.message if isinstance(error, BackupError) else type(error).__name__
        _log.error("An alert was not sent: %s", reason)
