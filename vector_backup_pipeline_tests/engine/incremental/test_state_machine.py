"""Any changes, and backups that build on one another: each set restores the rows of its snapshot.

To search for long, with other examples each time: `INCREMENTAL_EXAMPLES=200 pytest -s -o
faulthandler_timeout=0`.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.errors import InvalidParams, RunCancelled
from vector_backup_pipeline.engine.incremental import export
from vector_backup_pipeline.engine.incremental.consolidate import consolidate
from vector_backup_pipeline.engine.postgres import ranges
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline_tests.engine.incremental import changes
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database, new_database
from vector_backup_pipeline_tests.fix_prune import prune_root
from vector_backup_pipeline_tests.fix_restore import RestoreMaker

EXAMPLES = int(os.environ.get("INCREMENTAL_EXAMPLES", "0"))

TABLES = ("docs", "parts")
# Errors that a change may end with: keys that exist, rows without a partition, locks of others.
_EXPECTED = (
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.CheckViolation,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.WrongObjectType,  # A partition that is attached already, or is not.
    psycopg2.errors.UndefinedTable,
    psycopg2.errors.ObjectInUse,
    psycopg2.errors.CardinalityViolation,
    psycopg2.errors.TooManyRows,  # A key that is in several partitions.
)
_ROWS = SQL("SELECT t::text FROM {} t ORDER BY 1")
Rows = dict[str, list[str]]
# What happened how often, for `pytest -s`.
seen: Counter[str] = Counter()

# The name of a method and its arguments.
Step = tuple[Any, ...]

_endings = st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK", "PREPARE"])
_in_savepoints = st.lists(st.tuples(changes.row_changes, st.booleans()), max_size=4)


def _step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), *arguments)


_row_steps = st.one_of(
    _step("change", changes.row_changes),
    _step("change_in_savepoints", _in_savepoints, _endings),
    _step("change_in_open_transaction", changes.row_changes),
    _step("end_open_transaction", _endings),
    _step("end_prepared_transaction", st.sampled_from(["COMMIT", "ROLLBACK"])),
)
_other_steps = st.one_of(
    _step("change", changes.maintenance),
    _step("change", changes.definition_changes),
    _step("change", changes.changes_of_all_rows),
    _step("copy_frozen_rows", st.sampled_from(["docs", "parts_0"]), st.integers(1, 40)),
    _step("cancelled_backup", changes.row_changes, st.sampled_from(["export", "finish"])),
    _step("backup_without_connections"),
    _step("consolidate"),
    _step("prune"),
)
# Mostly rows, so that many backups are incremental.
steps: st.SearchStrategy[Step] = st.integers(0, 9).flatmap(
    lambda number: _other_steps if number in (3, 5, 6) else _row_steps
)
_modes = st.sampled_from(["auto", "auto", "auto", "auto", "incremental", "full"])
_meanwhile = st.none() | changes.row_changes | changes.maintenance
_backup = _step("backup", _modes, _meanwhile, st.booleans())
# Ends of ranges are drawn more often.
backups: st.SearchStrategy[Step] = st.integers(0, 14).flatmap(
    lambda number: _step("backup_and_truncate") if number == 7 else _backup
)

# The format is the same for a whole chain.
_formats = st.sampled_from(["csv", "csv", "binary"])
_FORMS: tuple[dict[str, Any], ...] = (
    {"compression": "zstd"},
    {"compression": "gzip", "workers": 1},
    {"compression": "none", "export_method": "cursor", "batch_size": 7},
)


class Session:
    """A connection that begins and ends its transactions by statements."""

    def __init__(self, database: Database) -> None:
        self._connection: Connection = psycopg2.connect(
            database.url, options="-c lock_timeout=50ms -c synchronous_commit=off"
        )
        self._connection.autocommit = True

    def run(self, statements: str) -> bool:
        """Whether they succeeded; one transaction if there are several."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statements)
        except _EXPECTED as error:
            seen[f"{type(error).__name__}: {statements[:40]}"] += 1
            return False
        return True

    def run_inside(self, statements: str, *, is_kept: bool = True) -> None:
        """A subtransaction of the open transaction."""
        self.run("SAVEPOINT change")
        if not self.run(statements) or not is_kept:
            self.run("ROLLBACK TO change")
        self.run("RELEASE change")

    def copy(self, statement: str, data: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.copy_expert(statement, io.StringIO(data))

    def close(self) -> None:
        self._connection.close()


class IncrementalBackups(RuleBasedStateMachine):
    """Two tables, a session that commits at once, and one whose transactions stay open."""

    source: Database
    target: Database

    def __init__(self) -> None:
        super().__init__()
        self._root = Path(tempfile.mkdtemp(prefix="vector-backup-chains-"))
        self._backup = BackupMaker(self._root)
        self._restore = RestoreMaker(self._root)
        self._expected: dict[str, Rows] = {}
        self._prepared: list[str] = []
        self._names = iter(range(1000))
        self._is_open = False
        reset(self.source)
        self.source.run(changes.TABLES)
        self._main, self._open = Session(self.source), Session(self.source)

    def teardown(self) -> None:
        self._main.close()
        self._open.close()
        for name in self._prepared:
            self.source.run(f"ROLLBACK PREPARED '{name}'")
        shutil.rmtree(self._root)

    @initialize(form=_formats)
    def first_backup(self, form: str) -> None:
        seen["examples"] += 1
        # `binary` cannot be read through a cursor.
        forms = _FORMS if form == "csv" else _FORMS[:2]
        self._forms = itertools.cycle({**parameters, "format": form} for parameters in forms)
        self.backup_and_restore("auto", lambda: None)

    @rule(steps=st.lists(steps, min_size=1, max_size=5), backup=backups)
    def change_and_backup(self, steps: list[Step], backup: Step) -> None:
        for name, *arguments in [*steps, backup]:
            getattr(self, name)(*arguments)

    @precondition(lambda self: len(self._expected) > 1)
    @rule(data=st.data())
    def restore_an_older_set(self, data: st.DataObject) -> None:
        self._check_restore(data.draw(st.sampled_from(sorted(self._expected))))

    def change(self, statement: str) -> None:
        self._main.run(statement)

    def change_in_savepoints(self, statements: list[tuple[str, bool]], ending: str) -> None:
        self._main.run("BEGIN")
        for statement, is_kept in statements:
            self._main.run_inside(statement, is_kept=is_kept)
        self._end(self._main, ending)

    def change_in_open_transaction(self, statement: str) -> None:
        if not self._is_open:
            self._open.run("BEGIN")
            self._is_open = True
        self._open.run_inside(statement)

    def end_open_transaction(self, ending: str) -> None:
        if self._is_open:
            self._is_open = False
            self._end(self._open, ending)

    def _end(self, session: Session, ending: str) -> None:
        if ending != "PREPARE" or len(self._prepared) == 3:
            session.run(ending.replace("PREPARE", "COMMIT"))
            return
        name = f"change_{next(self._names)}"
        session.run(f"PREPARE TRANSACTION '{name}'")
        self._prepared.append(name)

    def end_prepared_transaction(self, ending: str) -> None:
        if self._prepared:
            self._main.run(f"{ending} PREPARED '{self._prepared.pop(0)}'")

    def copy_frozen_rows(self, table: str, rows: int) -> None:
        """PostgreSQL freezes rows only where the same transaction has made the file."""
        self._main.run("BEGIN")
        if self._main.run(f"TRUNCATE {table}"):
            key = "tag" if table == "docs" else "part"
            data = "".join(f"{row}\t0\tfrozen\n" for row in range(rows))
            self._main.copy(f"COPY {table} (id, {key}, body) FROM STDIN (FREEZE)", data)
        self._main.run("COMMIT")

    def backup(self, mode: str, statement: str | None, ends_transaction: bool) -> None:
        def meanwhile() -> None:
            if statement is not None:
                self._main.run(statement)
            if ends_transaction:
                self.end_open_transaction("COMMIT")

        self.backup_and_restore(mode, meanwhile)

    def backup_and_restore(self, mode: str, meanwhile: Callable[[], None]) -> None:
        rows = contents(self.source)
        made = self._make_backup(meanwhile, mode=mode)
        if mode == "incremental" and isinstance(made.error, InvalidParams):
            seen["refused"] += 1
            return
        assert made.error is None, made.error
        self._check(made, rows)

    def backup_and_truncate(self) -> None:
        self.end_open_transaction("COMMIT")
        while self._prepared:
            self.end_prepared_transaction("COMMIT")
        rows = contents(self.source)
        made = self._make_backup(
            lambda: None, mode="auto", truncate_tables=("docs",), truncate_vector_tables=True
        )
        assert made.error is None, made.error
        assert made.result.truncate_performed
        assert contents(self.source)["docs"] == []
        self._check(made, rows)

    def cancelled_backup(self, statement: str, step: str) -> None:
        def cancel() -> None:
            self._main.run(statement)
            raise RunCancelled

        self._backup.between = {step: cancel}
        self._run_backup(mode="auto")

    def backup_without_connections(self) -> None:
        def disconnect() -> None:
            self.source.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
                " current_database() AND state = 'idle in transaction' AND query ~ 'SNAPSHOT|pg_'"
            )

        assert self._make_backup(disconnect, mode="auto").error is not None

    def consolidate(self) -> None:
        root = BackupRoot(str(self._root), "vector_bak")
        with suppress(InvalidParams):  # The latest set is full.
            result = consolidate(ConsolidateParameters(), root, run_id="consolidate")
            assert result.set_timestamp is not None
            seen["consolidated"] += 1
            self._expected[result.set_timestamp] = self._expected[result.chain[0]]
            self._check_restore(result.set_timestamp)

    def prune(self) -> None:
        for stamp in prune_root(self._root, KeepRules(keep_last=2)).removed:
            seen["pruned"] += 1
            self._expected.pop(stamp, None)

    def _make_backup(self, meanwhile: Callable[[], None], **parameters: Any) -> FinishedBackup:
        self._backup.between = {"export": meanwhile}
        return self._run_backup(**parameters)

    def _run_backup(self, **parameters: Any) -> FinishedBackup:
        defaults = {"tables": TABLES, "truncate_tables": (), **next(self._forms)}
        return self._backup(self.source.url, **(defaults | parameters))

    def _check(self, made: FinishedBackup, rows: Rows) -> None:
        assert made.stamp is not None
        for table in made.manifest.tables:
            what = "incremental" if table.builds_on else str(table.full_reason)
            seen[re.sub(r"\d+", "N", what)] += 1
            assert table.rows == len(rows[table.table])
        self._expected[made.stamp] = rows
        self._check_restore(made.stamp)

    def _check_restore(self, stamp: str) -> None:
        reset(self.target)
        self._restore.succeeds(self.target, timestamp=stamp)
        assert contents(self.target) == self._expected[stamp]


def contents(database: Database) -> Rows:
    return {
        table: [row for (row,) in database.ask(_ROWS.format(Identifier(table)))] for table in TABLES
    }


def reset(database: Database) -> None:
    database.run("DROP TABLE IF EXISTS docs, parts, parts_2; DROP TYPE IF EXISTS mood")


@pytest.fixture
def target(server18: EmbeddedServer) -> Iterator[Database]:
    with new_database(server18, "restored_chains") as target:
        yield target


def test_each_set_of_a_chain_is_the_tables_at_its_snapshot(
    database: Database, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several ranges, of all rows, of keys and of changed rows.
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 8192)
    monkeypatch.setattr(ranges, "_SCAN_BYTES", 8192)
    monkeypatch.setattr(export, "_RANGE_BYTES", 1)

    class Machine(IncrementalBackups):
        pass

    Machine.source, Machine.target = database, target
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES or 3,
                stateful_step_count=12 if EXAMPLES else 5,
                derandomize=not EXAMPLES,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        print(*(f"{count:6} {what}" for what, count in seen.most_common()), sep="\n")  # noqa: T201
    assert seen["incremental"] > seen["examples"]
