"""Telling webhooks that incidents open and close."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.alerts.repository import LIVE_STATES
from service.alerts.tables import Incident
from service.registry.tables import Model, Version
from service.webhooks.events import cloud_event, rfc3339
from service.webhooks.service import announce

OPENED, CLOSED = "dev.modelwatch.incident.opened.v1", "dev.modelwatch.incident.closed.v1"
_PARTS = ("kind", "metric", "subject", "slice")


def announce_changes(session: Session, version_id: int) -> None:
    """Announce the version's incidents that opened or closed since they were last told of.

    The caller holds the version's lock.  An odd count of announcements means that it was told to
    be open.  One that came and went in between is no news; nobody is told of a version that is
    not live.
    """
    told_open = Incident.announcements % 2 == 1
    changed = session.execute(
        select(Incident, Model.name, Version.name)
        .join(Version, Version.id == Incident.version_id)
        .join(Model, Model.id == Version.model_id)
        .where(
            Incident.version_id == version_id,
            Incident.state.in_(LIVE_STATES) != told_open,
            Version.stage == "live",
        )
        .order_by(Incident.opened_start, Incident.id)
    ).all()
    if not changed:
        return
    at = session.scalars(select(func.clock_timestamp())).one()
    for incident, model, version in changed:
        incident.announcements += 1
        event = cloud_event(
            OPENED if incident.announcements % 2 else CLOSED,
            event_id=f"incident-{incident.id}-{incident.announcements}",
            source=f"/monitors/{model}",
            subject=f"{model}@{version}",
            at=at,
            data={"model": model, "version": version, **_said(incident)},
        )
        announce(session, event, model=model)


def _said(incident: Incident) -> dict[str, object]:
    said = {
        "incident": incident.id,
        "state": incident.state,
        "outcome": incident.outcome,
        "severity": incident.severity,
        "action": incident.action,
        "reason": incident.reason,
        "since": rfc3339(incident.since),
        "window": [rfc3339(incident.opened_start), rfc3339(incident.opened_end)],
        "evidence_url": f"/v1/incidents/{incident.id}",
    }
    parts = {name: getattr(incident, name) or None for name in _PARTS}
    return said | parts
