"""Incremental backups against a full one, and a chain's restore against a full set's.

    python benchmarks/incremental.py                     60,000 rows of 1,536 dimensions
    python benchmarks/incremental.py --rounds 5
    python benchmarks/incremental.py --growth            the same with 4 and 16 times the rows
    python benchmarks/incremental.py --keys 5000000      also diff two sets of so many keys

Everything runs in this process, through the engine; the ratios are of the medians. "0%" is a backup
of an unchanged table, "1%" one after an update of every hundredth row. A chain is a full set and
six incremental ones of 1% each; it is restored into a new table, and so is a full set of the same
rows.
"""

import argparse
import os
import resource
import shutil
import statistics
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from export import BIG, DIMENSIONS, DIRECTORY, clear_output, fill, run_statements

from vector_backup_pipeline.embedded import EmbeddedServer, start_embedded_server
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.types import BackupMode

CHANGING, NARROW, RESTORED = "bench_changing", "bench_narrow", "bench_restored"
CHAIN = 7

_CHANGING = f"""
    DROP TABLE IF EXISTS {CHANGING};
    CREATE TABLE {CHANGING} (LIKE {BIG} INCLUDING ALL);
    INSERT INTO {CHANGING} SELECT * FROM {BIG};
    VACUUM ANALYZE {CHANGING};
"""  # noqa: S608 - names of this file
_MORE_ROWS = f"""
    INSERT INTO {CHANGING}
    SELECT b.id || '-' || i, b.collection_id, b.embedding, b.document, b.cmetadata
      FROM {BIG} b, generate_series(2, {{times}}) i;
    VACUUM ANALYZE {CHANGING};
"""  # noqa: S608 - names of this file
_UPDATE = "UPDATE {} SET collection_id = gen_random_uuid() WHERE abs(hashtext(id::text) % 100) = {}"
_NARROW = f"""
    DROP TABLE IF EXISTS {NARROW};
    CREATE TABLE {NARROW} (id uuid PRIMARY KEY, collection_id uuid);
    INSERT INTO {NARROW} SELECT gen_random_uuid(), NULL FROM generate_series(1, {{rows}});
    VACUUM ANALYZE {NARROW};
"""  # noqa: S608 - names of this file


class Bench:
    def __init__(self, server: EmbeddedServer, workers: int) -> None:
        text = SecretText(server.connection_string())
        self._settings = ConnectionSettings.from_installation(text, "the benchmark")
        self._connection = psycopg2.connect(server.connection_string())
        self._connection.autocommit = True
        self._workers = workers

    def run_sql(self, script: str) -> None:
        with self._connection.cursor() as cursor:
            run_statements(cursor, script)

    def update(self, remainder: int, table: str = CHANGING) -> None:
        self.run_sql(_UPDATE.format(table, remainder))

    def backup(self, mode: BackupMode, table: str = CHANGING) -> tuple[str, float]:
        """The timestamp of the set, and the seconds of the run."""
        started = time.monotonic()
        run = BackupRun(
            BackupRequest(tables=(table,), truncate_tables=(), workers=self._workers, mode=mode),
            BackupRoot(str(DIRECTORY / "root"), "vector_bak"),
            lock_timeout=30,
            run_id=str(uuid.uuid4()),
        )
        stamp = run.resolve()
        run.pin(lambda: self._settings)
        run.export(table, lambda _: None)
        run.finish()
        run.close()
        assert stamp is not None
        return stamp, time.monotonic() - started

    def restore(self, stamp: str, table: str = CHANGING) -> float:
        """Seconds of a restore into a new table, its proof included."""
        self.run_sql(f"DROP TABLE IF EXISTS {RESTORED};\n")
        started = time.monotonic()
        run = RestoreRun(
            RestoreParameters(
                timestamp=stamp, rename={table: RESTORED}, workers=self._workers, probes=0
            ),
            BackupRoot(str(DIRECTORY / "root"), "vector_bak"),
            lock_timeout=30,
            run_id=str(uuid.uuid4()),
        )
        run.find(lambda: self._settings)
        for load in run.prepare():
            run.load(load.table, lambda _: None)
        run.build_indexes()
        run.prove()
        run.finish()
        run.close()
        return time.monotonic() - started

    def close(self) -> None:
        self.run_sql(f"DROP TABLE IF EXISTS {RESTORED};\n")
        self._connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--keys", type=int, default=0)
    arguments = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    with start_embedded_server(DIRECTORY / "postgres") as server:
        fill(server, arguments.rows, tenfold=False)
        with closing(Bench(server, arguments.workers)) as bench:
            bench.run_sql(_CHANGING)
            measure_backups(bench, arguments.rows, arguments.rounds)
            measure_chain(bench, arguments.rounds)
            for times in (4, 16) if arguments.growth else ():
                bench.run_sql(_CHANGING + _MORE_ROWS.format(times=times))
                measure_backups(bench, times * arguments.rows, 1)
            bench.run_sql(f"DROP TABLE {CHANGING};\n")
            if arguments.keys:
                measure_diff(bench, arguments.keys)
    clear_output()


def measure_backups(bench: Bench, rows: int, rounds: int) -> None:
    clear_output()
    seconds: dict[str, list[float]] = {"full": [], "0%": [], "1%": []}
    for number in range(rounds):
        _, took = bench.backup("full")
        seconds["full"].append(took)
        shutil.rmtree(DIRECTORY / "root" / "vector_bak")
        base, _ = bench.backup("auto")
        seconds["0%"].append(bench.backup("incremental")[1])
        bench.update(number)
        changed, took = bench.backup("incremental")
        seconds["1%"].append(took)
        sizes = {stamp: set_size(stamp, ".csv") for stamp in (base, changed)}
        keys = set_size(base, ".keys.parquet")
        if number < rounds - 1:
            shutil.rmtree(DIRECTORY / "root" / "vector_bak")
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"\n{rows} rows x {DIMENSIONS} dimensions, csv, medians:")
    for way, median in medians.items():
        print(f"  {way:6} {median:7.2f} s   {medians['full'] / median:6.1f} times as fast")
    print(f"  bytes of 1%: {sizes[changed] / sizes[base]:.4f} of the full set's")
    print(f"  key file: {keys / sizes[base]:.4f} of the csv file", flush=True)


def measure_chain(bench: Bench, rounds: int) -> None:
    clear_output()
    bench.backup("auto")
    for number in range(CHAIN - 1):
        bench.update(number)
        chain, _ = bench.backup("incremental")
    full, _ = bench.backup("full")
    seconds: dict[str, list[float]] = {chain: [], full: []}
    for _ in range(rounds):
        for stamp in (full, chain):
            seconds[stamp].append(bench.restore(stamp))
    ratio = statistics.median(seconds[chain]) / statistics.median(seconds[full])
    print(
        f"\nrestore of a chain of {CHAIN}: {statistics.median(seconds[chain]):.2f} s, "
        f"{ratio:.2f} times the {statistics.median(seconds[full]):.2f} s of a full set",
        flush=True,
    )


def measure_diff(bench: Bench, rows: int) -> None:
    from vector_backup_pipeline.engine.incremental.diff import find_pair

    clear_output()
    bench.run_sql(_NARROW.format(rows=rows))
    earlier, full = bench.backup("auto", NARROW)
    bench.update(1, NARROW)
    later, incremental = bench.backup("incremental", NARROW)
    directory: Any = BackupRoot(str(DIRECTORY / "root"), "vector_bak").find(None)
    started = time.monotonic()
    result = find_pair(directory, earlier, later).difference()
    print(f"\n{rows} keys: full {full:.1f} s, 1% {incremental:.1f} s")
    print(f"diff: {time.monotonic() - started:.1f} s: {result}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:.0f} MB")
    bench.run_sql(f"DROP TABLE {NARROW};\n")


def set_size(stamp: str, extension: str) -> int:
    directory = Path(DIRECTORY / "root" / "vector_bak")
    return sum(path.stat().st_size for path in directory.glob(f"*_{stamp}{extension}"))


if __name__ == "__main__":
    main()
