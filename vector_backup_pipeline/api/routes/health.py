"""Whether runs can start."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.access import OPEN_PATH
from vector_backup_pipeline.api.errors import NO_DAEMON, DagsterUnavailable
from vector_backup_pipeline.api.models import HealthData
from vector_backup_pipeline.api.openapi import answer, errors
from vector_backup_pipeline.api.services import ServicesOf

router = APIRouter()


@router.get(
    OPEN_PATH,
    summary="Check whether Dagster answers and starts runs",
    responses={
        **answer(200, HealthData, "Dagster answers and starts runs."),
        **errors(500, 503),
    },
    tags=["health"],
)
async def healthz(services: ServicesOf) -> JSONResponse:
    """503 if Dagster does not answer, or if it queues runs and the daemon that starts them is
    missing. Other missing daemons are only listed. Needs no token."""
    health = await services.health.read()
    daemons = {name: "alive" if alive else "missing" for name, alive in health.daemons.items()}
    facts: dict[str, Any] = {"dagster": health.version, "daemons": daemons}
    if health.has_stuck_queue:
        return envelope.failure(
            503,
            DagsterUnavailable.error_type,
            NO_DAEMON,
            "Dagster's daemon is not running, so queued runs do not start. Start it: "
            "dagster-daemon run.",
            can_retry=True,
            more=facts,
        )
    return envelope.success("服务正常", facts)
