"""Whether the process lives, and whether a prediction sent now would be stored for good."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Engine, text

from service.db.durability import LOSSY
from service.db.outage import DATABASE
from service.db.revisions import is_migrated
from service.errors import NotDurableError, NotMigratedError, NotReadyError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer as soon as the process serves requests; the database is not asked."""
    # Without a thread: all of them may wait for a database that hangs.
    return {"status": "alive"}


@router.get("/readyz")
def readyz(request: Request) -> dict[str, Any]:
    """Answer 200 when the database is there, migrated, and keeps what it has committed."""
    if request.app.state.stopping.is_set():
        message = "the process is about to stop"
        raise NotReadyError(message)
    engine: Engine = request.app.state.engine
    with engine.connect() as connection:
        lossy = sorted(connection.scalars(text(LOSSY)))
        migrated = is_migrated(connection)
    DATABASE.works("requests")
    if lossy:
        raise NotDurableError(lossy)
    if not migrated:
        raise NotMigratedError
    return {"status": "ready"}
