"""Where backups are stored: a directory or a bucket behind one contract (`store.py`)."""
