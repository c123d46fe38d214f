"""The restore against psql's `\\copy` and pg_restore, side by side in one run.

    python benchmarks/restore.py                    60,000 rows of 1,536 dimensions, an HNSW index
    python benchmarks/restore.py --rounds 5
    python benchmarks/restore.py --without-index    leaves out the HNSW index, which takes minutes

Every way fills a database that was just made, in turn, `--rounds` times; the ratios are of the
medians, since machines are shared and noisy. `\\copy` loads the very file that is restored, into a
table with its primary key. pg_restore loads an uncompressed dump in directory format with two jobs.
"binary" is a set in binary and zstd, else it is csv and not compressed.
Of the restore, "load" is what its result says of the rows' way into the table, "whole" is the run:
the source's check, the indexes, the proof and the probes too. Memory is the peak of the process
while the job runs, over what it was after the same job on an almost empty table.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
from export import (
    BIG,
    DIMENSIONS,
    DIRECTORY,
    TINY,
    clear_output,
    fill,
    row_count,
    run_statements,
    status_mb,
)
from psycopg2 import sql

from vector_backup_pipeline.embedded import EmbeddedServer, start_embedded_server

INDEXED = "bench_indexed"
SOURCE, TARGET = "postgres", "bench_target"
DUMP = DIRECTORY / "dump"
# The same for pg_restore and for this tool; the graph of 60,000 rows takes 0.4 GB.
MAINTENANCE_WORK_MEM = "1GB"

# Times in seconds by the name of what was timed.
Times = dict[str, float]

# Renamed last: a table of that name is whole and has its index.
_INDEX = """
    DROP TABLE IF EXISTS {table}, {table}_unfinished;
    CREATE TABLE {table}_unfinished (LIKE {source} INCLUDING INDEXES);
    INSERT INTO {table}_unfinished SELECT * FROM {source};
    SET maintenance_work_mem = '{memory}';
    CREATE INDEX {table}_hnsw ON {table}_unfinished USING hnsw (embedding vector_cosine_ops);
    VACUUM ANALYZE {table}_unfinished;
    ALTER TABLE {table}_unfinished RENAME TO {table};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-index", action="store_true")
    arguments = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    with start_embedded_server(DIRECTORY / "postgres") as server:
        fill(server, arguments.rows, tenfold=False)
        clear_output()
        if not arguments.without_index:
            fill_indexed(server, arguments.rows)
        bench = Bench(server, with_index=not arguments.without_index)
        times = [bench.round(number + 1) for number in range(arguments.rounds)]
        report(arguments.rows, times)
        for workers in (1, 2):
            memory = bench.memory(workers)
            print(f"memory over the idle job, new tables, workers {workers}: {memory:.1f} MB")
        bench.drop_target()
    clear_output()
    shutil.rmtree(DUMP, ignore_errors=True)


def report(rows: int, rounds: list[Times]) -> None:
    medians = {name: statistics.median(times[name] for times in rounds) for name in rounds[0]}
    print(f"\n{rows} rows x {DIMENSIONS} dimensions, medians:")
    for name, median in medians.items():
        print(f"  {name:44} {median:8.2f} s")
    print("\nratios, above 1 is slower:")
    for ours, theirs in _COMPARED:
        if ours in medians:
            print(f"  {ours:44} {medians[ours] / medians[theirs]:8.2f} x {theirs}")


COPY, PG_RESTORE = "psql \\copy", "pg_restore -j2, HNSW index"
_COMPARED = [
    ("existing table, 1 connection: load", COPY),
    ("existing table, 1 connection, binary: load", COPY),
    ("new table, 2 workers: load", COPY),
    ("new table, 2 workers: whole", COPY),
    ("new table, 2 workers, binary: load", COPY),
    ("new table, 2 workers, binary: whole", COPY),
    ("new table and HNSW index: whole", PG_RESTORE),
]


@dataclass(frozen=True)
class Stored:
    """A set of one table, by that table's file."""

    table: str
    file: Path

    @property
    def timestamp(self) -> str:
        return self.file.name.removeprefix(f"{self.table}_").partition(".")[0]


class Bench:
    """One server, its backup sets and dumps; each way starts from a new, empty target."""

    def __init__(self, server: EmbeddedServer, *, with_index: bool) -> None:
        self.server = server
        self.with_index = with_index
        self.tiny, self.big = self.backup(TINY), self.backup(BIG)
        self.binary = self.backup(BIG, format="binary", compression="zstd")
        if with_index:
            self.indexed = self.backup(INDEXED)
            self.dump()

    def round(self, number: int) -> Times:
        times: Times = {}
        csv, binary = (self.big, ""), (self.binary, ", binary")
        ways: list[Callable[[], Times]] = [
            self.copy,
            *(partial(self.into_existing, *each) for each in (csv, binary)),
            *(partial(self.into_new, *each) for each in (csv, binary)),
            *self.indexed_ways(),
        ]
        for way in ways:
            self.make_target()
            for name, seconds in way().items():
                times[name] = seconds
                print(f"round {number}: {name}: {seconds:.2f} s", flush=True)
        return times

    def indexed_ways(self) -> list[Callable[[], Times]]:
        return [self.with_hnsw, self.pg_restore] if self.with_index else []

    def copy(self) -> Times:
        self.make_table()
        # \copy takes its file name raw, up to the next space.
        command = f"\\copy {BIG} from '{self.big.file}' csv header"
        return {COPY: self.timed("psql", self.url(TARGET), "-Xqc", command)}

    def into_existing(self, stored: Stored, form: str) -> Times:
        self.make_table()
        done = self.restore(stored, workers=1)
        return {f"existing table, 1 connection{form}: load": done["load"]}

    def into_new(self, stored: Stored, form: str) -> Times:
        done = self.restore(stored, workers=2)
        return {f"new table, 2 workers{form}: {what}": done[what] for what in ("load", "whole")}

    def with_hnsw(self) -> Times:
        done = self.restore(self.indexed, workers=2, maintenance_work_mem=MAINTENANCE_WORK_MEM)
        return {"new table and HNSW index: whole": done["whole"]}

    def pg_restore(self) -> Times:
        options = {"PGOPTIONS": f"-c maintenance_work_mem={MAINTENANCE_WORK_MEM}"}
        arguments = ("-j2", "--exit-on-error", "-d", self.url(TARGET), str(DUMP))
        return {PG_RESTORE: self.timed("pg_restore", *arguments, environment=options)}

    def memory(self, workers: int) -> float:
        """MB over the idle job."""
        self.make_target()
        return self.restore(self.big, workers=workers)["memory"]

    def restore(self, stored: Stored, **parameters: Any) -> dict[str, float]:
        """The job in a process of its own: "load" and "whole" in seconds, "memory" in MB."""
        sets = [(each.table, each.timestamp) for each in (self.tiny, stored)]
        measured: dict[str, float] = self.job("restore", sets, parameters)
        return measured

    def backup(self, table: str, **parameters: Any) -> Stored:
        """A set with this table alone."""
        return Stored(table, Path(self.job("backup", table, parameters)))

    def job(self, *what: Any) -> Any:
        environment = os.environ | {
            "VECTOR_BACKUP_DB_URL": self.url(SOURCE),
            "VECTOR_BACKUP_ROOT": str(DIRECTORY / "root"),
            "BENCH_TARGET": self.url(TARGET),
        }
        command = [sys.executable, __file__, "--job", json.dumps(what)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    def dump(self) -> None:
        shutil.rmtree(DUMP, ignore_errors=True)
        # Ours is not compressed either.
        how = ("-Fd", "-j2", "-Z0", "-t", INDEXED, "-f", str(DUMP))
        self.timed("pg_dump", self.url(SOURCE), *how)

    def make_target(self) -> None:
        self.drop_target()
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TARGET)))
        with closing(psycopg2.connect(self.url(TARGET))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE EXTENSION vector")
                # Nobody writes what another has left to write.
                cursor.execute("CHECKPOINT")

    def drop_target(self) -> None:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self.execute(drop.format(sql.Identifier(TARGET)))

    def execute(self, statement: sql.Composed) -> None:
        with closing(psycopg2.connect(self.server.connection_string())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def make_table(self) -> None:
        definition = subprocess.run(
            [self.server.bin_directory / "pg_dump", self.url(SOURCE), "-s", "-t", BIG],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        subprocess.run(
            [self.server.bin_directory / "psql", self.url(TARGET), "-Xq"],
            input=definition,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def timed(
        self, program: str, *arguments: str, environment: dict[str, str] | None = None
    ) -> float:
        started = time.monotonic()
        subprocess.run(
            [self.server.bin_directory / program, *arguments],
            env=os.environ | (environment or {}),
            check=True,
        )
        return time.monotonic() - started

    def url(self, database: str) -> str:
        return self.server.connection_string(database)


def fill_indexed(server: EmbeddedServer, rows: int) -> None:
    with closing(psycopg2.connect(server.connection_string(SOURCE))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            if row_count(cursor, INDEXED) != rows:
                print(f"Filling {INDEXED} and building its index …", flush=True)
                script = _INDEX.format(table=INDEXED, source=BIG, memory=MAINTENANCE_WORK_MEM)
                run_statements(cursor, script)


def job_in_this_process(kind: str, *what: Any) -> None:
    print(json.dumps(backup_job(*what) if kind == "backup" else restore_job(*what)))


def backup_job(table: str, parameters: dict[str, Any]) -> str:
    from vector_backup_pipeline.launch import launch
    from vector_backup_pipeline.operations import BACKUP
    from vector_backup_pipeline.settings import load_settings

    outcome = launch(BACKUP, {"tables": [table], **parameters}, load_settings())
    assert outcome.result is not None and outcome.error_type is None, outcome.message
    file = outcome.result["tables_backed_up"][table]["backup_file"]
    return str(Path(outcome.result["backup_directory"]) / file)


def restore_job(sets: list[tuple[str, str]], parameters: dict[str, Any]) -> dict[str, float]:
    """Restores the tables one after the other, each from its set; measures the last one."""
    from vector_backup_pipeline.launch import launch
    from vector_backup_pipeline.operations import RESTORE
    from vector_backup_pipeline.settings import load_settings

    def run(table: str, timestamp: str) -> Times:
        connection = {"env": "BENCH_TARGET"}
        what = {"timestamp": timestamp, "tables": [table], "db_connection": connection}
        outcome = launch(RESTORE, {**what, **parameters}, load_settings())
        assert outcome.result is not None and outcome.error_type is None, outcome.message
        restored = outcome.result["restore_results"][table]
        assert restored["digest_matches"] is True
        return {"load": restored["duration"], "whole": outcome.result["duration"]}

    *first, last = sets
    for each in first:
        run(*each)
    idle = status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak that VmHWM shows.
    times = run(*last)
    return {**times, "memory": status_mb("VmHWM") - idle}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        job_in_this_process(*json.loads(sys.argv[2]))
    else:
        main()
