"""The objects that the routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.health import HealthReader
from vector_backup_pipeline.api.runs import Runs
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    root: BackupRoot
    dagster: DagsterClient
    runs: Runs
    health: HealthReader


async def _services(request: Request) -> Services:
    # Asynchronous, since a plain `def` would need a thread, and slow storage can occupy them all.
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(_services)]
