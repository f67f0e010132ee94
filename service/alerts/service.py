"""What a window says about each cause is recorded, and so is what people do about incidents."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.orm import Session

from service.alerts import repository
from service.alerts.announcing import announce_changes
from service.alerts.repository import RESOLVED
from service.alerts.schemas import Deed
from service.alerts.settling import Timeline, settle
from service.alerts.tables import Incident
from service.errors import ConflictError
from service.evaluation.causes import Cause, Signal
from service.evaluation.hysteresis import State
from service.ledger.calendar import Interval

OUTCOMES = {"resolve": RESOLVED, "dismiss": "dismissed"}


def record_signals(
    session: Session,
    timeline: Timeline,
    window: Interval,
    signals: Collection[Signal],
    *,
    pending: bool = False,
) -> None:
    """Store what a window says about every cause, and bring the incidents up to date.

    An open incident of which the window says nothing is unknown while more is ``pending``; later
    the window's verdicts tell whether its silence is calm.
    The caller holds the version's lock: two workers that judge neighbours would not see each
    other's window otherwise.
    """
    told = [signal for signal in signals if signal.state is not State.CALM]
    going_on = repository.causes_open_at(session, timeline.version_id, window.start)
    if pending:
        spoken = {signal.cause for signal in signals}
        silent = {cause for cause in going_on - spoken if cause.kind != "quality"}
        told += [Signal(cause, State.UNKNOWN) for cause in sorted(silent)]
    before = repository.replace_signals(session, timeline.version_id, window, told)
    news: dict[Cause, Signal | None] = dict.fromkeys(before)
    news.update({signal.cause: signal for signal in told if signal.state is State.ALERT})
    touched = news.keys() | going_on
    if touched:
        settle(session, timeline, window.start, touched, news)
        announce_changes(session, timeline.version_id)


def handle(
    incident: Incident, deed: Deed, *, by: str, note: str, at: datetime, newest: Interval
) -> None:
    """Acknowledge, resolve or dismiss an incident; the caller holds the version's lock.

    Raises
    ------
    ConflictError
        If it has ended otherwise before.
    """
    if deed == "acknowledge":
        if incident.state == "closed":
            message = "the incident is closed"
            raise ConflictError(message)
        if incident.state == "open":
            incident.state, incident.note = "acknowledged", note or incident.note
            incident.acknowledged_by, incident.acknowledged_at = by, at
        return
    outcome = OUTCOMES[deed]
    if incident.state == "closed":
        if incident.outcome != outcome:
            message = f"the incident is closed: {incident.outcome}"
            raise ConflictError(message)
        return
    incident.state, incident.outcome, incident.note = "closed", outcome, note or incident.note
    incident.ended_by, incident.ended_at = by, at
    if outcome == RESOLVED:
        incident.closed_start, incident.closed_end = newest.start, newest.end
