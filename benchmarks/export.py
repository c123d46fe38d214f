"""The export against psql's `\\copy` and a plain cursor, side by side in one run.

    python benchmarks/export.py                     60,000 rows of 1,536 dimensions
    python benchmarks/export.py --rounds 5
    python benchmarks/export.py --tenfold           memory with ten times the rows too (10 GB)

Every way writes the same table to the same disk, in turn, `--rounds` times; the ratios are of the
medians, since machines are shared and noisy. Memory is the peak of the process while the job runs,
over what it was after the same job on an almost empty table.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.embedded import EmbeddedServer, start_embedded_server

DIRECTORY = Path(__file__).parent.parent / ".bench"
DIMENSIONS = 1536
TINY, BIG, HUGE = "bench_tiny", "bench_big", "bench_huge"

_FILL = """
    CREATE TABLE {table} (
        id varchar PRIMARY KEY, collection_id uuid, embedding vector({dimensions}),
        document varchar, cmetadata jsonb
    );
    INSERT INTO {table}
    SELECT 'document-' || i, gen_random_uuid(),
           -- Both outer references keep the planner from computing one vector for all rows.
           (SELECT array_agg((random() * 2 - 1 + d * 0 + i * 0)::float4)
              FROM generate_series(1, {dimensions}) d)::vector,
           repeat('A line of the document number ' || i || E'.\\n', 8),
           jsonb_build_object('source', 'file ' || i % 100, 'page', i % 40)
      FROM generate_series(1, {rows}) i;
    VACUUM ANALYZE {table};
"""
_MULTIPLY = """
    CREATE TABLE {table} (LIKE {source});
    INSERT INTO {table} SELECT s.* FROM {source} s, generate_series(1, 10);
    VACUUM ANALYZE {table};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--tenfold", action="store_true")
    arguments = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    with start_embedded_server(DIRECTORY / "postgres") as server:
        fill(server, arguments.rows, tenfold=arguments.tenfold)
        ways: dict[str, Callable[[], float]] = {
            "this tool": lambda: run_job(server, BIG, arguments.workers)["seconds"],
            "psql \\copy": lambda: psql_copy(server),
            "named cursor + csv.writer": lambda: named_cursor(server),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(arguments.rounds):
            for way, run in ways.items():
                clear_output()
                seconds[way].append(run())
                print(f"round {number + 1}: {way}: {seconds[way][-1]:.2f} s", flush=True)
        report_times(arguments.rows, seconds)
        for table in [BIG, HUGE] if arguments.tenfold else [BIG]:
            clear_output()
            memory = run_job(server, table, arguments.workers)["memory"]
            print(f"memory over the idle job, {table}: {memory:.1f} MB")
    clear_output()


def report_times(rows: int, seconds: dict[str, list[float]]) -> None:
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"\n{rows} rows x {DIMENSIONS} dimensions, csv, medians:")
    for way, median in medians.items():
        ratio = median / medians["this tool"]
        print(f"  {way:28} {median:7.2f} s   this tool is {ratio:.2f} times as fast")


def fill(server: EmbeddedServer, rows: int, *, tenfold: bool) -> None:
    with closing(psycopg2.connect(server.connection_string())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            tables = {TINY: 58, BIG: rows}
            for table, count in tables.items():
                if row_count(cursor, table) != count:
                    print(f"Filling {table} with {count} rows …", flush=True)
                    cursor.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(table)))
                    script = _FILL.format(table=table, rows=count, dimensions=DIMENSIONS)
                    run_statements(cursor, script)
            if tenfold and row_count(cursor, HUGE) != 10 * rows:
                print(f"Filling {HUGE} with {10 * rows} rows …", flush=True)
                cursor.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(HUGE)))
                run_statements(cursor, _MULTIPLY.format(table=HUGE, source=BIG))


def run_statements(cursor: Cursor, script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            cursor.execute(statement)


def row_count(cursor: Cursor, table: str) -> int | None:
    cursor.execute("SELECT to_regclass(%s)", [table])
    if cursor.fetchone() == (None,):
        return None
    cursor.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table)))
    ((rows,),) = cursor.fetchall()
    return int(rows)


def run_job(
    server: EmbeddedServer, table: str, workers: int, **parameters: str
) -> dict[str, float]:
    """The job in a process of its own: seconds of its steps, MB of memory over the idle job."""
    environment = os.environ | {
        "VECTOR_BACKUP_DB_URL": server.connection_string(),
        "VECTOR_BACKUP_ROOT": str(DIRECTORY / "root"),
    }
    done = subprocess.run(
        [sys.executable, __file__, "--job", table, json.dumps({"workers": workers, **parameters})],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def job_in_this_process(table: str, parameters: dict[str, Any]) -> None:
    from vector_backup_pipeline.launch import launch
    from vector_backup_pipeline.operations import BACKUP
    from vector_backup_pipeline.settings import load_settings

    def run(name: str) -> float:
        outcome = launch(BACKUP, {"tables": [name], **parameters}, load_settings())
        assert outcome.result is not None and outcome.error_type is None, outcome.message
        return float(outcome.result["duration"])

    run(TINY)
    idle = status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak that VmHWM shows.
    seconds = run(table)
    print(json.dumps({"seconds": seconds, "memory": status_mb("VmHWM") - idle}))


def status_mb(entry: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(entry)


def psql_copy(server: EmbeddedServer) -> float:
    command = f"\\copy {BIG} to '{DIRECTORY / 'root' / 'psql.csv'}' csv header"
    started = time.monotonic()
    subprocess.run(
        [server.bin_directory / "psql", server.connection_string(), "-Xqc", command], check=True
    )
    return time.monotonic() - started


def named_cursor(server: EmbeddedServer) -> float:
    started = time.monotonic()
    with (
        closing(psycopg2.connect(server.connection_string())) as connection,
        connection.cursor(name="plain") as cursor,
        (DIRECTORY / "root" / "cursor.csv").open("w", newline="") as file,
    ):
        cursor.itersize = 10_000
        cursor.execute(SQL("SELECT * FROM {}").format(Identifier(BIG)))
        writer = csv.writer(file)
        for row in cursor:
            writer.writerow(row)
    return time.monotonic() - started


def clear_output() -> None:
    shutil.rmtree(DIRECTORY / "root", ignore_errors=True)
    (DIRECTORY / "root").mkdir()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        job_in_this_process(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main()
