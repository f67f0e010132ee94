"""What Alertmanager tells: each alert with a status of its own, whatever its group's is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, field_validator

from service.evaluation.policy import Action
from service.registry.repository import is_name

MOST_LABELS = 64
LONGEST_LABEL = 200
LONGEST_TEXT = 500
# What somebody who reads the evidence needs; of others nothing is kept.
ANNOTATIONS = ("measured", "description", "runbook_url", "dashboard_url")
LONGEST_ANNOTATION = 2_000
# What neither Postgres stores nor a page should show.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)

Status = Literal["firing", "resolved"]

EXAMPLE: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}/{action="retrain"}:{model="loans", model_version="7"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "modelwatch",
    "groupLabels": {"model": "loans", "model_version": "7"},
    "commonLabels": {"model": "loans", "model_version": "7"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "LoansRejectTooMany",
                "model": "loans",
                "model_version": "7",
                "severity": "critical",
                "action": "retrain",
            },
            "annotations": {
                "summary": "loans 7: rejects 40 % of the applications",
                "runbook_url": "https://wiki.example.com/loans#rejects",
            },
            "startsAt": "2026-11-21T08:15:00.123Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": "9a1f5c0b3d2e4a68",
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert about a version; a muted one is silenced or inhibited, and asks for nothing.

    ``as_of`` is when Alertmanager was asked; None if it told on its own, which says no time.
    """

    fingerprint: str
    status: Status
    name: str
    model: str
    version: str
    retrain: bool
    summary: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None
    muted: bool = False
    as_of: datetime | None = None


class AlertDocument(BaseModel):
    """An alert as Alertmanager sends it; keys that are not here are not needed."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    status: Status
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: AwareDatetime  # noqa: N815  the name is Alertmanager's
    endsAt: AwareDatetime | None = None  # noqa: N815  the name is Alertmanager's
    generatorURL: str = ""  # noqa: N815  the name is Alertmanager's
    fingerprint: str = Field(pattern=r"^[0-9a-f]{1,64}$")

    @field_validator("startsAt")
    @classmethod
    def _can_be_stored(cls, value: datetime) -> datetime:
        if not _EARLIEST < value < _LATEST:
            message = "is not a time that an alert can start"
            raise ValueError(message)
        return value

    def alert(self, *, muted: bool = False, as_of: datetime | None = None) -> Alert:
        """Return what is kept of it: bounded, and printable."""
        # A firing alert ends in the year 1.
        ended = self.endsAt is not None and _EARLIEST < self.endsAt < _LATEST
        labels = {_text(name, LONGEST_LABEL): _text(v, LONGEST_LABEL) for name, v in self._kept()}
        return Alert(
            fingerprint=self.fingerprint,
            status=self.status,
            name=_text(self.labels.get("alertname", ""), LONGEST_LABEL),
            model=_name(self.labels.get("model", "")),
            version=_name(self.labels.get("model_version", "")),
            retrain=self.labels.get("action") == Action.RETRAIN.value,
            summary=_text(self.annotations.get("summary", ""), LONGEST_TEXT),
            labels=labels,
            annotations=self._said(),
            starts_at=self.startsAt,
            ends_at=self.endsAt if ended and self.status == "resolved" else None,
            muted=muted,
            as_of=as_of,
        )

    def _said(self) -> dict[str, str]:
        found = {name: self.annotations.get(name) for name in ANNOTATIONS}
        found["generator_url"] = self.generatorURL
        return {name: _text(said, LONGEST_ANNOTATION) for name, said in found.items() if said}

    def _kept(self) -> list[tuple[str, str]]:
        ours = ("alertname", "model", "model_version", "action", "severity", "subject", "slice")
        found = sorted(self.labels.items(), key=lambda pair: (pair[0] not in ours, pair))
        return found[:MOST_LABELS]


class Notification(BaseModel):
    """The body of Alertmanager's webhook, version 4; its own status is the group's."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    version: Literal["4"]
    # Nobody corrects these by hand: the first mistake is told, and no other.
    alerts: Annotated[list[AlertDocument], FailFast()]


def polled(found: object, as_of: datetime) -> Alert | None:
    """Return an alert of ``GET /api/v2/alerts``; None if it is none that could be kept."""
    if not isinstance(found, Mapping):
        return None
    state = found.get("status")
    # After a start it says for a while that an alert is unprocessed, silenced or not.
    muted = isinstance(state, Mapping) and state.get("state") != "active"
    try:
        document = AlertDocument.model_validate({**found, "status": "firing"})
    except ValueError:
        return None
    return document.alert(muted=muted, as_of=as_of)


def _name(value: str) -> str:
    return value if is_name(value) else ""


def _text(value: str, most: int) -> str:
    return _CONTROL.sub(" ", value)[:most]
