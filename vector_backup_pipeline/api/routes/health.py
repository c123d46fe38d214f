"""Whether a run that is asked for here would begin."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.access import OPEN_PATH
from vector_backup_pipeline.api.documents import answers
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.responses import NO_DAEMON
from vector_backup_pipeline.api.services import ServicesOf

router = APIRouter()


@router.get(
    OPEN_PATH,
    summary="Whether Dagster answers and begins runs",
    responses=answers("health", "healthy", 500, 503),
    tags=["health"],
)
async def healthz(services: ServicesOf) -> JSONResponse:
    """503 if Dagster does not answer, or has a queue and no daemon that takes runs out of it. A
    daemon that is missing otherwise is told, and is no reason not to send calls here. No token is
    needed."""
    health = await services.health.read()
    daemons = {name: "alive" if alive else "missing" for name, alive in health.daemons.items()}
    told: dict[str, Any] = {"dagster": health.version, "daemons": daemons}
    if health.has_stuck_queue:
        return envelope.failure(
            503,
            DagsterUnavailable.error_type,
            NO_DAEMON,
            "Dagster's daemon gives no sign of life, so runs would wait in the queue for ever. "
            "Start it: dagster-daemon run.",
            can_retry=True,
            more=told,
        )
    return envelope.success("服务正常", told)
