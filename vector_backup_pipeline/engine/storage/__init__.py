"""Where backups are stored, in two layers.

`store.py` is the contract of a store. `local_store.py` (a directory) and `object_store.py` (a
bucket) implement it. Above it, once for all stores: `root.py` (the layout), `directory.py` (files,
the log), `run_markers.py` (who is alive) and `retries.py`.
"""
