"""Where backups lie: a small contract (`contract.py`) and the stores that keep it."""
