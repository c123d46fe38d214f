"""Connection strings given on the command line: they reach the run by a variable's name alone."""

import os

_VARIABLE = "VECTOR_BACKUP_RUN_CONNECTION"


def handed_over(connection: str) -> dict[str, str]:
    """The connection as run config: Dagster stores the variable's name and never the string."""
    os.environ[_VARIABLE] = connection
    return {"env": _VARIABLE}
