"""Alerts become evidence of retraining requests, and a team's own rule may ask for one."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy.orm import Session

from service.access.audit import audit
from service.clock import now
from service.registry.repository import find_monitor, find_version_by_id
from service.registry.values import VersionSpec
from service.retraining import repository
from service.retraining.alertmanager import Alert
from service.retraining.service import request_retraining
from service.retraining.tables import RequestAlert, RetrainingRequest

log = logging.getLogger(__name__)

Outcome = Literal["opened", "attached", "updated", "left_out", "ignored"]

# By how much a clock may be ahead of ours before it is not believed.
SKEW = timedelta(hours=1)
# Alertmanager gives a message up after its `group_interval`, of which five minutes are shipped.
LATE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one alert, and the request that it is evidence of."""

    fingerprint: str
    outcome: Outcome
    request: int | None = None


def receive_alerts(session: Session, alerts: Sequence[Alert]) -> list[Received]:
    """Record what is told of each alert; doing it again changes nothing.

    Whoever calls commits before it answers.  What concerns no version that is known, or nobody
    works on, is ignored and not refused: Alertmanager would send a refusal again for ever.  That
    an alert is resolved closes no request.
    """
    by_name: defaultdict[tuple[str, str], dict[str, Alert]] = defaultdict(dict)
    latest = now()
    for alert in alerts:
        by_name[alert.model, alert.version][alert.fingerprint] = _believed(alert, latest)
    versions = repository.versions_named(session, list(by_name))
    outcomes: dict[tuple[str, str, str], Received] = {}
    # In one order: two that are told of the same versions at once do not wait for each other.
    for version in sorted(versions, key=lambda version: version.version_id):
        told = by_name[version.model, version.version]
        for received in _receive(session, version, list(told.values())):
            outcomes[version.model, version.version, received.fingerprint] = received
    return [
        outcomes.get(
            (alert.model, alert.version, alert.fingerprint), Received(alert.fingerprint, "ignored")
        )
        for alert in alerts
    ]


def _believed(alert: Alert, latest: datetime) -> Alert:
    # One from the future would be newer than all that is told after it, for good.
    if alert.starts_at > latest + SKEW:
        alert = replace(alert, starts_at=latest)
    if alert.ends_at is not None and alert.ends_at > latest + SKEW:
        alert = replace(alert, ends_at=latest)
    return alert


def audit_opened(session: Session, actor: str, received: Sequence[Received]) -> None:
    """Log who opened requests; last, as all that is logged."""
    for request in sorted({one.request or 0 for one in received if one.outcome == "opened"}):
        opened = session.get_one(RetrainingRequest, request)
        version = find_version_by_id(session, opened.version_id)
        details = {"version": f"{version.model}@{version.version}"}
        audit(session, actor, "retraining-request.open", f"retraining-request:{request}", details)


def _receive(session: Session, version: VersionSpec, alerts: Sequence[Alert]) -> list[Received]:
    stage = repository.lock_version(session, version.version_id)
    live = repository.live_request(session, version.version_id)
    known = repository.alerts_of_version(
        session, version.version_id, [alert.fingerprint for alert in alerts]
    )
    firing: list[Alert] = []
    ongoing: list[Alert] = []
    received: list[Received] = []
    heard: list[RequestAlert] = []
    told_since = repository.read_clock(session) - LATE
    for alert in alerts:
        ended = _ended_since(known[alert.fingerprint], alert, alert.as_of or told_since)
        if ended is not None:
            received.append(Received(alert.fingerprint, "updated", ended))
            continue
        evidence = _evidence_of(known[alert.fingerprint], alert, live)
        for row in known[alert.fingerprint]:
            if row.request_id == live or row.state == "firing":
                _update(row, alert)
                heard.append(row)
        if evidence is not None:
            received.append(Received(alert.fingerprint, "updated", evidence))
            ongoing += [alert] if alert.status == "firing" and evidence != live else []
        elif alert.status == "firing":
            firing.append(alert)
    repository.mark_heard(session, heard)
    request_id = live
    if live is None and stage == "live":
        request_id = _open(session, version, firing)
    if request_id is None:
        return received
    # What goes on since a request that is closed does not ask for another, but is evidence of it.
    return received + _attach(session, request_id, firing + ongoing, opened=live is None)


def _ended_since(rows: Sequence[RequestAlert], alert: Alert, told_since: datetime) -> int | None:
    """Return the request that knows, from a message since then, that the firing alert has ended.

    Times of an alert put its episodes in order, not the messages of one: an alert that Prometheus
    could not tell of for a while goes on under the start of the episode that Alertmanager ended.
    So a message about what has just ended is taken for a late one, unless Alertmanager was asked.
    """
    for row in rows:
        end = row.ends_at or row.starts_at
        just_told = row.state == "resolved" and row.received_at >= told_since
        if alert.status == "firing" and just_told and alert.starts_at <= max(row.starts_at, end):
            return row.request_id
    return None


def _evidence_of(rows: Sequence[RequestAlert], alert: Alert, live: int | None) -> int | None:
    """Return the request that the alert is evidence of already, if there is one.

    Of a closed request it still is while it fires without a break: who has closed it knew of it.
    """
    for row in rows:
        ongoing = row.state == "firing" or alert.starts_at <= row.starts_at
        if row.request_id == live or (live is None and ongoing):
            return row.request_id
    return None


def _update(row: RequestAlert, alert: Alert) -> None:
    # Prometheus forgets when an alert started, so that only an earlier start is an older message;
    # what Alertmanager says when it is asked is none.
    if alert.as_of is not None or alert.starts_at >= row.starts_at:
        row.state, row.starts_at, row.ends_at = alert.status, alert.starts_at, alert.ends_at
        row.summary = alert.summary or row.summary
        row.annotations = dict(alert.annotations) or row.annotations


def _open(session: Session, version: VersionSpec, firing: Sequence[Alert]) -> int | None:
    asking = [alert for alert in firing if alert.retrain and not alert.muted]
    if not asking:
        return None
    retraining = find_monitor(session, version.model_id).document.retraining
    return request_retraining(
        session,
        model_id=version.model_id,
        version_id=version.version_id,
        model=version.model,
        version=version.version,
        action="retrain",
        reason=_reason(asking),
        window=None,
        signals=[_signal(alert) for alert in asking],
        cooldown=retraining.cooldown,
        webhooks=retraining.webhooks,
    )


def _attach(
    session: Session, request_id: int, firing: Sequence[Alert], *, opened: bool
) -> list[Received]:
    # Those that ask come first, for a request keeps so many and no more.
    kept = repository.add_alerts(
        session, request_id, sorted(firing, key=lambda alert: (not alert.retrain, alert.muted))
    )
    left_out = len(firing) - len(kept)
    if left_out:
        log.warning("request %s is full: %s alerts are left out", request_id, left_out)
    outcomes: dict[str, Outcome] = {
        alert.fingerprint: "opened" if opened and alert.retrain else "attached" for alert in kept
    }
    return [
        Received(alert.fingerprint, outcomes.get(alert.fingerprint, "left_out"), request_id)
        for alert in firing
    ]


def _reason(asking: Sequence[Alert]) -> str:
    first = min(asking, key=lambda alert: (alert.starts_at, alert.fingerprint))
    said = f"alert {first.name}: {first.summary}" if first.summary else f"alert {first.name}"
    return f"{said} and {len(asking) - 1} more" if len(asking) > 1 else said


_NUMBERS = (
    *("value", "ci_low", "ci_high", "threshold", "reference_value", "n", "n_reference", "p_value"),
    *("method", "direction"),
)


def _signal(alert: Alert) -> dict[str, object]:
    """Describe an alert as the worker describes a measurement; it has no numbers."""
    parts = {part: alert.labels.get(part) or None for part in ("subject", "slice")}
    return {"metric": alert.name, **parts, **dict.fromkeys(_NUMBERS), "reason": alert.summary}
