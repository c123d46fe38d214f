"""An endless upload in a separate process, which exits when its standard input is closed.

    python -m vector_backup_pipeline_tests.faults.endless_upload URL

prints "under way" when its first parts are stored.
"""

import os
import sys
import threading
import time

from vector_backup_pipeline.engine.catalog.claims import claim_timestamp
from vector_backup_pipeline.engine.file_names import data_file_name
from vector_backup_pipeline.engine.storage.root import BackupRoot

_BLOCK = bytes(1 << 20)
# With two parts under way at most, so many bytes can't be handed over before one is stored.
_BLOCKS_BEFORE_A_PART_IS_STORED = 34


def main(url: str) -> None:
    threading.Thread(target=_end_with_who_started_it, daemon=True).start()
    directory = BackupRoot(url, "vector_bak").open(None)
    stamp, claim = claim_timestamp(directory, "endless")
    try:
        with directory.create(data_file_name("public", "t", stamp, "csv")) as file:
            for _ in range(_BLOCKS_BEFORE_A_PART_IS_STORED):
                file.write(_BLOCK)
            print("under way", flush=True)  # noqa: T201 - the protocol
            while True:  # Slowly, so that the server's memory does not fill.
                file.write(_BLOCK)
                time.sleep(0.1)
    finally:
        claim.release()


def _end_with_who_started_it() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
