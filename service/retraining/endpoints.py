"""The receiver for Alertmanager's webhook."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError

from service.access.scopes import Actor
from service.errors import BusyError
from service.registry.documents import invalid
from service.retraining.alertmanager import EXAMPLE, Alert, Notification
from service.retraining.receiving import audit_opened, receive_alerts
from service.web import Body, WriteSession, documented_body

router = APIRouter(prefix="/v1/alertmanager", tags=["retraining"])


class Room:
    """Alerts that a process deals with at one time: they would keep ingest from the interpreter."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Give room, or raise that there is none; what comes alone has room in any case."""
        with self._lock:
            if self._held and self._held + count > self._limit:
                message = "too many alerts of other messages are dealt with; send it again later"
                raise BusyError(message)
            self._held += count
        try:
            yield
        finally:
            with self._lock:
                self._held -= count


# Two of the largest messages that the shipped configuration sends.
ROOM = Room(1000)


class ReceivedAlert(BaseModel):
    """What became of an alert; ``request`` is the retraining request that it is evidence of.

    One that was left out is not: the request keeps as many as it can, those that ask first.
    """

    model_config = ConfigDict(from_attributes=True)

    fingerprint: str
    outcome: Literal["opened", "attached", "updated", "left_out", "ignored"]
    request: int | None


class Receipt(BaseModel):
    """One answer for each alert, in their order; ``left_out`` counts those that found no room."""

    alerts: list[ReceivedAlert]
    left_out: int


@router.post("", openapi_extra=documented_body(Notification, EXAMPLE))
def receive(session: WriteSession, body: Body, actor: Actor) -> Receipt:
    """Take alerts as evidence of their versions' live retraining requests.

    A firing alert with the label `action="retrain"` opens a request where none is live, unless one
    of the model was closed within the monitor's cooldown.  Alerts that concern no live version are
    ignored, and `resolved` closes nothing.
    """
    with ROOM.hold(_count(body)):
        received = receive_alerts(session, _alerts_of(body))
        audit_opened(session, actor, received)
    return Receipt(
        alerts=[ReceivedAlert.model_validate(one) for one in received],
        left_out=sum(one.outcome == "left_out" for one in received),
    )


def _count(body: object) -> int:
    alerts = body.get("alerts") if isinstance(body, dict) else None
    return len(alerts) if isinstance(alerts, list) else 0


def _alerts_of(body: object) -> list[Alert]:
    try:
        notification = Notification.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None
    return [document.alert() for document in notification.alerts]
