"""`vector-backup serve`."""

import importlib.util

import click

from vector_backup_pipeline.cli.showing import DONE, FAILED
from vector_backup_pipeline.engine.errors import MissingExtra

_NEEDED = ("fastapi", "fastapi_offline", "uvicorn", "httpx", "cryptography")


@click.command("serve")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Another one than this machine, such as 0.0.0.0, needs "
    "VECTOR_BACKUP_API_TOKEN.",
)
@click.option(
    "--port",
    # asyncio takes a higher one too, and listens somewhere else then.
    type=click.IntRange(1, 65535),
    default=8084,
    show_default=True,
    help="Port, such as 8084.",
)
@click.option(
    "--no-auth",
    is_flag=True,
    help="Let everybody call who reaches the port, as the older service did. Default: off.",
)
def command(host: str, port: int, no_auth: bool) -> int:
    """Answer the older service's REST calls, by way of Dagster (VECTOR_BACKUP_DAGSTER_URL).

    \b
    Examples:
      vector-backup serve
      VECTOR_BACKUP_API_TOKEN=… vector-backup serve --host 0.0.0.0
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"The API needs {', '.join(missing)}, not installed here.", "api")
    from vector_backup_pipeline.api.server import serve
    from vector_backup_pipeline.settings import load_settings

    try:
        return DONE if serve(load_settings(), host=host, port=port, no_auth=no_auth) else FAILED
    except KeyboardInterrupt:
        return DONE
