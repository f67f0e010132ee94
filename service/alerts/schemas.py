"""Incidents as they are answered, and what somebody does about them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from service.alerts.tables import Incident
from service.registry.documents import PRINTABLE, Document

IncidentState = Literal["open", "acknowledged", "closed"]
Deed = Literal["acknowledge", "resolve", "dismiss"]

_MOST_IN_NOTE = 2000


class Handling(Document):
    """Who does it, and why; who does not say is named as in the audit log, by the key."""

    by: (
        Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)] | None
    ) = None
    note: Annotated[str, StringConstraints(max_length=_MOST_IN_NOTE, pattern=PRINTABLE)] = ""


class AlertingWindow(BaseModel):
    """A window that alerted about an incident's cause, and what it said."""

    model_config = ConfigDict(from_attributes=True)

    start: datetime
    end: datetime
    severity: str
    reason: str


class Edge(BaseModel):
    """The window that opened or closed an incident."""

    start: datetime
    end: datetime


def _or_null(value: str | None) -> str | None:
    return value or None


Part = Annotated[str | None, AfterValidator(_or_null)]


class IncidentDocument(BaseModel):
    """An open or past problem with one cause.

    It alerts from ``since`` on; ``opened`` is the window that confirmed it.  ``outcome`` says how
    a closed one ended; a dismissed one may still go on, unseen, until it recovers.
    """

    id: int
    model: str
    version: str
    kind: str
    metric: Part = Field(description="the check of quality, else null")
    subject: Part = Field(description="a feature, class or protected column, else null")
    slice: Part
    state: IncidentState
    outcome: Literal["recovered", "resolved", "dismissed", "withdrawn"] | None
    severity: Literal["info", "warning", "critical"]
    action: str
    reason: str
    since: datetime
    opened: Edge
    closed: Edge | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    ended_by: str | None
    ended_at: datetime | None
    note: str | None

    @classmethod
    def of(cls, incident: Incident, model: str, version: str) -> "IncidentDocument":
        """Describe a stored incident."""
        closed = None
        if incident.closed_start is not None and incident.closed_end is not None:
            closed = Edge(start=incident.closed_start, end=incident.closed_end)
        same = cls.model_fields.keys() - {"model", "version", "opened", "closed"}
        return cls.model_validate(
            {
                **{name: getattr(incident, name) for name in same},
                "model": model,
                "version": version,
                "opened": Edge(start=incident.opened_start, end=incident.opened_end),
                "closed": closed,
            }
        )


class IncidentWithWindows(IncidentDocument):
    """An incident and the windows that alert about it, newest first, at most 100 of them."""

    windows: list[AlertingWindow]


class IncidentList(BaseModel):
    """A page of incidents; ``next`` is the cursor of the page that follows, or null."""

    incidents: list[IncidentDocument]
    next: str | None
