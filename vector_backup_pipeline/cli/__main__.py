"""`python -m vector_backup_pipeline.cli`, for when the command is not on the path."""

from vector_backup_pipeline.cli import main

main()
