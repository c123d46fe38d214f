"""`python -m vector_backup_pipeline.cli`, where the command itself is not on the path."""

from vector_backup_pipeline.cli import main

main()
