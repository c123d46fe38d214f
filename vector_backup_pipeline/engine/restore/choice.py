"""What a restore of `latest` has to ask of the target, and to say about the set it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from vector_backup_pipeline.engine.catalog.choice import AskTarget
from vector_backup_pipeline.engine.catalog.contents import is_in_future
from vector_backup_pipeline.engine.catalog.sources import OLDER_SYSTEM, SourceDatabase
from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    connect,
    database_errors,
    end_quietly,
)
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline.engine.restore.source import RestoreSource
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.types import LATEST


def asking(connection_settings: Callable[[], ConnectionSettings]) -> AskTarget:
    """A function that connects to the target and tells which database it is."""

    def ask() -> SourceDatabase:
        settings = connection_settings()
        connection = connect(settings)
        try:
            with (
                database_errors("ask the target which database it is", settings.secrets),
                connection.cursor() as cursor,
            ):
                return database_of(identify_server(cursor))
        finally:
            end_quietly(connection)

    return ask


def database_of(server: ServerIdentity) -> SourceDatabase:
    return SourceDatabase(server.system_identifier, server.database)


def notices_on_set(source: RestoreSource, now: datetime) -> Iterator[str]:
    """About the set that `latest` is."""
    backup = source.backup
    if source.passed_over:
        yield (
            f"Newer than {backup.stamp}, but incomplete or damaged: "
            f"{', '.join(source.passed_over)}. vector-backup verify says what is wrong."
        )
    if is_in_future(backup.created_at, now):
        yield (
            f"The latest set {backup.stamp} was created in the future by this machine's clock "
            f"({backup.created_at:%Y-%m-%d %H:%M} UTC): a clock was or is wrong. Sets made since "
            "then may be newer. Check the list, and give the timestamp of the set you mean."
        )


def notice_on_target(
    source: RestoreSource, request: RestoreParameters, target: SourceDatabase
) -> Iterator[str]:
    """Says so if `latest` is of another database than the target, and nobody asked for that."""
    origin = source.backup.source
    is_by_default = request.timestamp == LATEST and request.source_database is None
    if is_by_default and origin != OLDER_SYSTEM and origin.differs_from(target):
        yield (
            f"The set {source.backup.stamp} is a backup of the database {origin.qualified}, the "
            f"only one with sets there; the target is the database {target.qualified}."
        )
