"""Cases in which a careless incremental backup would lose a change."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from vector_backup_pipeline.embedded import (
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    start_embedded_server,
)
from vector_backup_pipeline.embedded.cluster import locate_cluster
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.incremental.base import Doubt
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline_tests.faults.watching import wait_until
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_incremental import Chain, exported, new_chain
from vector_backup_pipeline_tests.fix_postgres import Database


@pytest.mark.parametrize("column", ["moods", "pair[]"])
def test_a_renamed_label_is_a_doubt_wherever_the_type_is(
    database: Database, backup: BackupMaker, column: str
) -> None:
    """Also if the label has its name back: a backup between may have read the other one."""
    database.run(
        """
        CREATE TYPE mood AS ENUM ('sad', 'glad');
        CREATE DOMAIN moods AS mood[];
        CREATE TYPE mood_range AS RANGE (subtype = mood);
        CREATE TYPE pair AS (a int, b mood_range);
        """
    )
    database.run(f"CREATE TABLE docs (id int PRIMARY KEY, state {column})")
    database.run("INSERT INTO docs SELECT i FROM generate_series(1, 9) i")
    chain = Chain(database, backup)
    chain.make()
    assert chain.table().builds_on
    database.run("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    assert chain.table().builds_on is None
    database.run("ALTER TYPE mood RENAME VALUE 'blue' TO 'low'")
    database.run("ALTER TYPE mood RENAME VALUE 'low' TO 'blue'")
    assert chain.table().builds_on is None


def test_a_set_that_was_made_after_the_snapshot_is_not_built_on(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at once: the second ends while the first looks for its base. Because of an open
    transaction, the xmin of both snapshots is the same."""
    with chain.database.session() as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        chain.make()
        full = chain.table(mode="full")

        def wait_for_the_other_run(run: BackupRun, pinned: PinnedSnapshot) -> ManifestSet | Doubt:
            monkeypatch.undo()
            chain.database.run("UPDATE docs SET body = 'later' WHERE id = 5")
            assert chain.make().manifest.builds_on
            return run._find_base(pinned)

        monkeypatch.setattr(BackupRun, "_find_base", wait_for_the_other_run)
        table = chain.table()

    assert "has a later transaction ID" in str(table.full_reason)
    assert (table.rows, table.digest) == (full.rows, full.digest)


_SETTINGS: dict[str, str | int | float] = {**THROWAWAY_SETTINGS, "autovacuum": False}
_XIDS_PER_SEGMENT = 1 << 20  # Of pg_xact, in which each has two bits.


@dataclass
class ScratchServer:
    """A server of the test's own, which may set its transaction IDs."""

    directory: Path
    server: EmbeddedServer

    @property
    def database(self) -> Database:
        return Database(self.server, "postgres")

    def freeze(self) -> None:
        """As autovacuum would long before: no transaction ID is 2^31 older than another."""
        self.database.run("UPDATE pg_database SET datallowconn = true")
        for name in ("template0", "template1", "postgres"):
            Database(self.server, name).run("VACUUM FREEZE")

    def set_next_xid(self, xid: int, *options: str) -> None:
        self.server.stop()
        cluster = locate_cluster(self.directory, self.server.version)
        segment = cluster.data / "pg_xact" / f"{xid // _XIDS_PER_SEGMENT:04X}"
        if not segment.exists():
            segment.write_bytes(bytes(_XIDS_PER_SEGMENT // 4))
            _give_to_server(segment, self.directory)
        cluster._run("pg_resetwal", "--pgdata", str(cluster.data), "-x", str(xid), *options)
        self.start()

    @contextmanager
    def standby(self) -> Iterator[Database]:
        """A copy of the server, which only replays the WAL of the copy."""
        directory = self.directory / "standby"
        cluster = locate_cluster(directory, self.server.version)
        cluster.data.mkdir(mode=0o700)
        _give_to_server(cluster.data, self.directory)
        source = ("--dbname", self.server.connection_string(), "--checkpoint", "fast")
        cluster._run("pg_basebackup", "--pgdata", str(cluster.data), *source)
        (cluster.data / "standby.signal").touch()
        with start_embedded_server(directory, 18, settings=_SETTINGS) as server:
            yield Database(server, "postgres")

    def crash(self) -> None:
        """Kill one of the server's processes; the others end too, and the server recovers."""
        checkpointer = self._checkpointer()
        assert checkpointer is not None
        os.kill(checkpointer, signal.SIGKILL)
        wait_until(lambda: self._checkpointer() not in (None, checkpointer))

    def _checkpointer(self) -> int | None:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        try:
            return next((pid for (pid,) in self.database.ask(query)), None)
        except psycopg2.Error:
            return None

    def start(self) -> None:
        self.server = start_embedded_server(self.directory, 18, settings=_SETTINGS)


def _give_to_server(path: Path, directory: Path) -> None:
    owner = (directory / "data").stat()
    os.chown(path, owner.st_uid, owner.st_gid)


@pytest.fixture
def scratch() -> Iterator[ScratchServer]:
    # Other users, such as the server's, cannot enter pytest's own directory.
    directory = Path(tempfile.mkdtemp(prefix="vector-backup-scratch-"))
    try:
        server = ScratchServer(directory, start_embedded_server(directory, 18, settings=_SETTINGS))
        yield server
        server.server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_transaction_ids_wrap_around(scratch: ScratchServer, backup: BackupMaker) -> None:
    scratch.database.run("CREATE EXTENSION vector")
    chain = new_chain(scratch.database, backup)
    old = chain.make()
    scratch.freeze()
    scratch.set_next_xid(2_000_000_000)
    chain.database = scratch.database
    reason = str(chain.table().full_reason)
    assert f"The set {old.stamp} is " in reason and "transactions old" in reason

    # The rows are frozen and 3.5 billion transactions old: their xmin is before 0 by its age.
    scratch.freeze()
    scratch.set_next_xid(3_500_000_000)
    chain.database = scratch.database
    assert "transactions old" in str(chain.table().full_reason)
    _changes_are_exported(chain, {1})

    # The wraparound is between two sets, and then behind both.
    scratch.freeze()
    scratch.set_next_xid((1 << 32) - 40)
    chain.database = scratch.database
    base = chain.make()
    assert int(base.manifest.snapshot.partition(":")[0]) < 1 << 32
    _changes_are_exported(chain, {2, 3})
    with scratch.database.session() as session, session.cursor() as cursor:
        session.autocommit = True
        for key in range(4, 9):
            for _ in range(12):
                cursor.execute("UPDATE docs SET body = body || 'x' WHERE id = %s", [key])
    made = chain.make()
    assert int(made.manifest.snapshot.partition(":")[0]) > 1 << 32
    assert exported(made) == {4, 5, 6, 7, 8}
    chain.check_content(made.manifest.tables[0])
    _changes_are_exported(chain, {9})

    scratch.set_next_xid(10_000, "-e", "0")
    chain.database = scratch.database
    assert "has a later transaction ID" in str(chain.table().full_reason)


def _changes_are_exported(chain: Chain, keys: set[int]) -> None:
    chain.database.run("UPDATE docs SET body = 'new' WHERE id = ANY(%s)", [list(keys)])
    made = chain.make()
    assert made.manifest.builds_on, made.manifest.tables[0].full_reason
    assert exported(made) == keys
    chain.check_content(made.manifest.tables[0])


def test_a_standby_and_a_promoted_one_are_backed_up_in_full(
    scratch: ScratchServer, backup: BackupMaker
) -> None:
    scratch.database.run("CREATE EXTENSION vector")
    chain = new_chain(scratch.database, backup)
    chain.make()
    with scratch.standby() as standby:
        chain.database = standby
        made = chain.make()
        assert made.manifest.tables[0].full_reason == "The server is a standby."
        assert not made.manifest.can_be_base
        standby.ask("SELECT pg_promote()")
        standby.run("UPDATE docs SET body = 'promoted' WHERE id = 1")
        made = chain.make()
        assert "its timeline has changed" in str(made.manifest.tables[0].full_reason)
        _changes_are_exported(chain, {2})
    # The newest set is of the other history.
    chain.database = scratch.database
    assert "its timeline has changed" in str(chain.table().full_reason)


def test_a_crash_that_loses_commits_after_a_set_loses_none_of_it(
    scratch: ScratchServer, backup: BackupMaker
) -> None:
    """Commits before the set are on disk with it; later ones are lost, and their transaction IDs
    used again."""
    database = scratch.database
    database.run("CREATE EXTENSION vector")
    for setting in ("synchronous_commit = off", "wal_writer_delay = '10s'"):
        database.run(f"ALTER SYSTEM SET {setting}")
    database.run("SELECT pg_reload_conf()")
    chain = new_chain(database, backup)
    chain.make()
    database.run("UPDATE docs SET body = 'in the set' WHERE id IN (1, 2)")
    base = chain.make()
    assert base.manifest.can_be_base
    next_xid = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int"
    begin = database.ask_one(next_xid)
    database.run("UPDATE docs SET body = 'lost' WHERE id = 3")
    scratch.crash()
    assert database.ask_one("SELECT body FROM docs WHERE id = 3") != "lost"
    assert database.ask_one(next_xid) == begin
    assert database.ask("SELECT id FROM docs WHERE body = 'in the set'") == [(1,), (2,)]
    _changes_are_exported(chain, {4, 5})
