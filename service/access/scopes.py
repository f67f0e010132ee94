"""Which key each route wants.  A route that is not here wants an unbound admin key."""

from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Request

from service.access.grants import LOCAL, Grant, Scope
from service.errors import ForbiddenError, UnknownModelError


class Need(NamedTuple):
    """A scope; ``whole`` routes are of the service, and a key that is bound to models has none."""

    scope: Scope
    whole: bool = False


INGEST: Final = Need(Scope.INGEST)
READ: Final = Need(Scope.READ)
ALERTS: Final = Need(Scope.ALERTS)
READ_ALL: Final = Need(Scope.READ, whole=True)
ADMIN: Final = Need(Scope.ADMIN)
ADMIN_ALL: Final = Need(Scope.ADMIN, whole=True)

NEEDS: Final[dict[str, Need]] = {
    "get /": READ,
    "get /docs": READ,
    "get /metrics": READ_ALL,
    "get /metrics/models": READ,
    "delete /v1/dead-letters": ADMIN,
    "delete /v1/dead-letters/{letter_id}": ADMIN,
    "delete /v1/keys/{kid}": ADMIN_ALL,
    "delete /v1/subjects/{subject}": ADMIN_ALL,
    "delete /v1/webhooks/{webhook}": ADMIN_ALL,
    "get /v1/audit": ADMIN_ALL,
    "get /v1/audit/verification": ADMIN_ALL,
    "get /v1/dead-letters": ADMIN,
    "get /v1/erasures": ADMIN_ALL,
    "get /v1/evaluations/{evaluation}": READ,
    "get /v1/incidents": READ,
    "get /v1/incidents/{incident_id}": READ,
    "get /v1/keys": ADMIN_ALL,
    "get /v1/models": READ,
    "get /v1/models/{model}": READ,
    "get /v1/models/{model}/measurements": READ,
    "get /v1/models/{model}/monitor": READ,
    "get /v1/models/{model}/predictions/{prediction_id}": READ,
    "get /v1/models/{model}/versions": READ,
    "get /v1/models/{model}/versions/{version}": READ,
    "get /v1/models/{model}/windows": READ,
    "get /v1/models/{model}/windows/{start}": READ,
    "get /v1/models/{model}/windows/{start}/report": READ,
    "get /v1/retraining-requests": READ,
    "get /v1/retraining-requests/{request_id}": READ,
    "get /v1/webhooks": ADMIN_ALL,
    "get /v1/webhooks/{webhook}": ADMIN_ALL,
    "get /v1/webhooks/{webhook}/deliveries": ADMIN_ALL,
    "post /v1/alertmanager": ALERTS,
    "post /v1/cloudevents": INGEST,
    "post /v1/dead-letters/replay": ADMIN,
    "post /v1/dead-letters/{letter_id}/replay": ADMIN,
    "post /v1/import/sagemaker": INGEST,
    "post /v1/incidents/{incident_id}/{deed}": ADMIN,
    "post /v1/keys": ADMIN_ALL,
    "post /v1/keys/{kid}/rotate": ADMIN_ALL,
    "post /v1/labels": INGEST,
    "post /v1/models/{model}/evaluate": ADMIN,
    "post /v1/predictions": INGEST,
    "post /v1/retraining-requests/{request_id}/{deed}": ADMIN,
    "post /v1/webhooks/{webhook}/deliveries/{delivery}/replay": ADMIN_ALL,
    "post /v1/webhooks/{webhook}/test": ADMIN_ALL,
    "put /v1/models/{model}": ADMIN,
    "put /v1/models/{model}/monitor": ADMIN,
    "put /v1/models/{model}/versions/{version}": ADMIN,
    "put /v1/models/{model}/versions/{version}/reference": ADMIN,
    "put /v1/webhooks/{webhook}": ADMIN_ALL,
}


def grant_of(request: Request) -> Grant:
    """Return what the request may do; the gate has found it out."""
    grant: Grant = request.scope.get("grant", LOCAL)
    return grant


async def authorize(request: Request) -> None:
    """Raise unless the request's key is for its route, and for the model that it names.

    It is a coroutine because it waits for nothing: a thread would cost more than the check.
    """
    grant = grant_of(request)
    need = need_of(request.method, request.scope["route"].path_format)
    if not grant.may(need.scope):
        message = f"the key's scopes do not include {need.scope}"
        raise ForbiddenError(message)
    if grant.models is None:
        return
    if need.whole:
        message = "a key that is bound to models is not for what concerns all of them"
        raise ForbiddenError(message)
    named = request.query_params.getlist("model")
    if "model" in request.path_params:
        named.append(request.path_params["model"])
    if not grant.models.issuperset(named):
        raise UnknownModelError


def count_rows(request: Request, count: int) -> None:
    """Count the rows of a request against the limit of its key, once they have been read."""
    meter = grant_of(request).meter
    if meter is not None:
        meter.take_rows(count)


def need_of(method: str, path: str) -> Need:
    """Return what a route wants; ``path`` is its template."""
    return NEEDS.get(f"{method.lower()} {path}", ADMIN_ALL)


def _actor(request: Request) -> str:
    return grant_of(request).actor


Actor = Annotated[str, Depends(_actor)]
"""Who asks, for the audit log."""
