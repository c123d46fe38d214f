"""Each format with each compression against `pg_dump -Fc` and psql's `\\copy`, side by side.

    python benchmarks/formats.py                    60,000 rows of 1,536 dimensions
    python benchmarks/formats.py --rounds 5 --without-dump

Every way writes the same table to the same disk, in turn, `--rounds` times; the ratios are of the
medians. pg_dump takes as long as all others together: it runs once. Memory is the peak over the
idle job, as in export.py.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable

from export import BIG, DIMENSIONS, DIRECTORY, clear_output, fill, psql_copy, run_job

from vector_backup_pipeline.embedded import EmbeddedServer, start_embedded_server
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS

DUMP, COPY = "pg_dump -Fc", "psql \\copy csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--without-dump", action="store_true")
    arguments = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    seconds: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, int] = {}
    memory: dict[str, list[float]] = defaultdict(list)
    with start_embedded_server(DIRECTORY / "postgres") as server:
        fill(server, arguments.rows, tenfold=False)
        if not arguments.without_dump:
            measure(DUMP, lambda: dump(server), seconds, sizes)
        for _ in range(arguments.rounds):
            measure(COPY, lambda: psql_copy(server), seconds, sizes)
            for form, compression in itertools.product(FORMATS, COMPRESSIONS):
                way = f"{form}, {compression}"

                def job(form: str = form, compression: str = compression, way: str = way) -> float:
                    measured = run_job(
                        server, BIG, arguments.workers, format=form, compression=compression
                    )
                    memory[way].append(measured["memory"])
                    return measured["seconds"]

                measure(way, job, seconds, sizes)
    clear_output()
    report(arguments.rows, seconds, sizes, memory)


def measure(
    way: str,
    run: Callable[[], float],
    seconds: dict[str, list[float]],
    sizes: dict[str, int],
) -> None:
    clear_output()
    seconds[way].append(run())
    files = [path for path in (DIRECTORY / "root").rglob("*") if path.is_file()]
    sizes[way] = max(path.stat().st_size for path in files)
    print(f"{way}: {seconds[way][-1]:.2f} s, {sizes[way] / 1e6:.0f} MB", flush=True)


def dump(server: EmbeddedServer) -> float:
    file = DIRECTORY / "root" / "dump"
    started = time.monotonic()
    tool = server.bin_directory / "pg_dump"
    subprocess.run(
        [tool, server.connection_string(), "-Fc", "-t", BIG, "-f", file],
        check=True,
    )
    return time.monotonic() - started


def report(
    rows: int,
    seconds: dict[str, list[float]],
    sizes: dict[str, int],
    memory: dict[str, list[float]],
) -> None:
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"\n{rows} rows x {DIMENSIONS} dimensions, medians; how many times as fast:")
    print(f"  {'':16} {'seconds':>8} {'MB':>6} {'memory':>8} {DUMP:>12} {COPY:>15}")
    for way, median in medians.items():
        peak = f"{statistics.median(memory[way]):.0f} MB" if way in memory else ""
        ratios = [medians[other] / median if other in medians else None for other in (DUMP, COPY)]
        shown = ["" if ratio is None else f"{ratio:.1f}" for ratio in ratios]
        size = f"{sizes[way] / 1e6:.0f}"
        print(f"  {way:16} {median:8.2f} {size:>6} {peak:>8} {shown[0]:>12} {shown[1]:>15}")


if __name__ == "__main__":
    main()
