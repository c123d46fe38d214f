"""Where backups are stored, in two layers.

`store.py` is the contract of a store: a few primitives. `local_store.py` (a directory) and
`object_store.py` (a bucket, with `object_upload`, `object_errors`, `s3_environment` and
`unfinished_uploads`) implement it. Above it, once for all stores: `root.py` (the layout),
`directory.py` (files, the log), `run_markers.py` (who is alive) and `retries.py`.
"""
