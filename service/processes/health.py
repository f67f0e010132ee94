"""Whether the process lives, and whether a prediction sent now would be stored for good."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Engine, text

from service.errors import ServiceError

router = APIRouter(tags=["health"])

_DURABILITY = text(
    "SELECT name, setting FROM pg_settings"
    " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
)
_MIGRATED = text("SELECT to_regclass('latest_window') IS NOT NULL")


class NotReadyError(ServiceError):
    """The process lives, but what it acknowledged now might be lost or never be judged."""

    status = 503
    code = "not-ready"
    title = "Not ready"
    retry_after = 2


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer as soon as the process serves requests; the database is not asked."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(request: Request) -> dict[str, Any]:
    """Answer 200 when the database is there, migrated, and keeps what it has committed."""
    engine: Engine = request.app.state.engine
    with engine.connect() as connection:
        durability = {row.name: row.setting for row in connection.execute(_DURABILITY)}
        migrated = connection.execute(_MIGRATED).scalar_one()
    lossy = sorted(name for name, setting in durability.items() if setting == "off")
    if lossy:
        message = f"the database may lose what it has committed: {', '.join(lossy)} is off"
        raise NotReadyError(message)
    if not migrated:
        message = "the database has no tables yet: run `modelwatch migrate`"
        raise NotReadyError(message)
    return {"status": "ready"}
