"""The receiver for Alertmanager's webhook."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError

from service.access.scopes import Actor
from service.registry.documents import invalid
from service.retraining.alertmanager import EXAMPLE, Notification
from service.retraining.receiving import audit_opened, receive_alerts
from service.web import Body, WriteSession, documented_body

router = APIRouter(prefix="/v1/alertmanager", tags=["retraining"])


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
    try:
        notification = Notification.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None
    received = receive_alerts(session, [document.alert() for document in notification.alerts])
    audit_opened(session, actor, received)
    return Receipt(
        alerts=[ReceivedAlert.model_validate(one) for one in received],
        left_out=sum(one.outcome == "left_out" for one in received),
    )
