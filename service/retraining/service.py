"""Opening retraining requests."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from service.errors import ConflictError, UnknownVersionError
from service.retraining import repository
from service.retraining.events import Asked, requested_event
from service.retraining.schemas import Deed
from service.retraining.tables import LIVE_STATES, RetrainingRequest
from service.webhooks.service import announce


def request_retraining(
    session: Session,
    *,
    model_id: int,
    version_id: int,
    model: str,
    version: str,
    action: str,
    reason: str,
    window: tuple[datetime, datetime] | None,
    signals: Sequence[dict[str, Any]],
    asked: Asked | None = None,
    cooldown: timedelta = timedelta(0),
    webhooks: Collection[str] | None = None,
) -> int | None:
    """Link the window to the version's live request, or open one and announce it.

    Without a window an alert asks, which the caller links.  A new one is announced to the
    ``webhooks`` of those names, or to all that want to hear of it.

    Returns the request's id.  Repeating a call changes nothing: a window that has been evidence
    once, of a request that is closed by now, does not open another.  A retired version gets none,
    nor does a model one of whose requests was closed less than ``cooldown`` ago: hence ``None``.

    Raises
    ------
    UnknownVersionError
        If no such version is registered.
    """
    stage = repository.lock_version(session, version_id)
    if stage is None:
        raise UnknownVersionError
    if window is not None:
        known = repository.request_of_window(session, version_id, *window)
        if known is not None:
            return known
    live = repository.live_request(session, version_id)
    if live is not None:
        if window is not None:
            repository.link_window(session, live, *window)
        return live
    if stage == "retired" or repository.was_closed_within(session, model_id, cooldown):
        return None
    request = RetrainingRequest(
        model_id=model_id, version_id=version_id, state="open", action=action, reason=reason
    )
    session.add(request)
    session.flush()
    if window is not None:
        repository.link_window(session, request.id, *window)
    event = requested_event(
        request_id=request.id,
        opened_at=request.opened_at,
        model=model,
        version=version,
        action=action,
        reason=reason,
        window=window,
        signals=signals,
        asked=asked,
    )
    announce(session, event, model=model, named=webhooks, request_id=request.id)
    return request.id


# From which states a deed leads where; a state that it leads to is one where nothing is left to do.
_DEEDS: Mapping[Deed, tuple[tuple[str, ...], str]] = {
    "acknowledge": (("open",), "acknowledged"),
    "start": (("open", "acknowledged"), "retraining"),
    "dismiss": (LIVE_STATES, "dismissed"),
}


def handle(request: RetrainingRequest, deed: Deed, *, by: str, note: str, at: datetime) -> None:
    """Move a request on; the caller holds the version's lock.

    Raises
    ------
    ConflictError
        If the request is in a state from which this cannot be done.
    """
    before, after = _DEEDS[deed]
    if request.state == after:
        return
    if request.state not in before:
        message = f"the request is {request.state}"
        raise ConflictError(message)
    request.state, request.handled_by, request.note = after, by, note or request.note
    if after not in LIVE_STATES:
        request.closed_at = at
