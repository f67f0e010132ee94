"""Why a retraining was asked for: the latest revisions of the windows that asked, and labels."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from sqlalchemy import ColumnElement, and_, exists, or_, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from service.alerts.repository import WITHDRAWN
from service.alerts.tables import Incident
from service.buckets.tables import BucketProfile
from service.evaluation.explanation import CONTRIBUTIONS, REALISED
from service.evaluation.measurement import Verdict
from service.evaluation.policy import Action
from service.profiles.profile import RegressionProfile
from service.profiles.serialise import performance_from_bytes
from service.registry.values import VersionSpec
from service.retraining.tables import RequestWindow, RetrainingRequest
from service.runs.tables import Measurement, Window


@dataclass(frozen=True, slots=True)
class WindowEvidence:
    """The latest revision of a linked window, what alerts in it, and what explains its loss."""

    window: Window
    alerting: list[Measurement] = field(default_factory=list)
    explaining: list[Measurement] = field(default_factory=list)


def explained_windows(
    session: Session, version_id: int, spans: Sequence[tuple[datetime, datetime]]
) -> list[WindowEvidence]:
    """Return these windows of a version, and what explains their loss."""
    windows = session.scalars(
        select(Window).where(
            Window.version_id == version_id,
            Window.latest,
            tuple_(Window.start, Window.end).in_(spans),
        )
    ).all()
    explaining = _measured(session, [w.id for w in windows], Measurement.metric.in_(CONTRIBUTIONS))
    return [WindowEvidence(window, explaining=explaining[window.id]) for window in windows]


def windows_of(session: Session, request_ids: Sequence[int]) -> dict[int, list[WindowEvidence]]:
    """Return the evidence of each request, in order of time.

    It is read when asked for, so that it follows a window that late rows or labels revise.
    """
    linked = session.execute(
        select(RequestWindow.request_id, Window)
        .join(RetrainingRequest, RetrainingRequest.id == RequestWindow.request_id)
        .join(
            Window,
            and_(
                Window.version_id == RetrainingRequest.version_id,
                Window.start == RequestWindow.start,
                Window.end == RequestWindow.end,
                Window.latest,
            ),
        )
        .where(RequestWindow.request_id.in_(request_ids))
        .order_by(RequestWindow.request_id, Window.start, Window.end)
    ).all()
    ids = {window.id for _, window in linked}
    alerting = _measured(session, ids, Measurement.verdict == Verdict.ALERT)
    explaining = _measured(session, ids, Measurement.metric.in_(CONTRIBUTIONS))
    evidence: dict[int, list[WindowEvidence]] = {request_id: [] for request_id in request_ids}
    for request_id, window in linked:
        found = WindowEvidence(window, alerting[window.id], explaining[window.id])
        evidence[request_id].append(found)
    return evidence


def where_lost(windows: Iterable[WindowEvidence]) -> str:
    """Return where the loss is, in a sentence: of the newest window of which it is known.

    What labels show comes before what scores promise; empty while nothing is known.
    """
    told = [
        (each.metric == REALISED, found.window.start, -each.position, each.reason)
        for found in windows
        for each in found.explaining
        if each.value is not None and each.reason
    ]
    return max(told)[-1] if told else ""


def _measured(
    session: Session, window_ids: Iterable[int], which: ColumnElement[bool]
) -> defaultdict[int, list[Measurement]]:
    found: defaultdict[int, list[Measurement]] = defaultdict(list)
    rows = session.scalars(
        select(Measurement)
        .where(Measurement.window_id.in_(window_ids), which)
        .order_by(Measurement.window_id, Measurement.position)
    )
    for row in rows:
        found[row.window_id].append(row)
    return found


def incidents_of(
    session: Session, request: RetrainingRequest, windows: Sequence[WindowEvidence]
) -> list[int]:
    """Return the incidents that ask for retraining in the windows of a request."""
    if not windows:
        return []
    starts = [evidence.window.start for evidence in windows]
    found = session.scalars(
        select(Incident.id)
        .where(
            Incident.version_id == request.version_id,
            Incident.action == Action.RETRAIN.value,
            Incident.outcome.is_distinct_from(WITHDRAWN),
            Incident.since <= max(starts),
            or_(Incident.closed_start.is_(None), Incident.closed_start >= min(starts)),
        )
        .order_by(Incident.id)
    )
    return list(found)


def labelled_rows(
    session: Session, request: RetrainingRequest, version: VersionSpec
) -> dict[str, int] | None:
    """Return how many labelled rows of each class the request's windows hold, or None.

    None means that the classes are not known.  The windows of one request may overlap: a bucket
    counts once, under the newest binning that it was profiled with.
    """
    if not version.classes:
        return None
    linked = exists().where(
        RequestWindow.request_id == request.id,
        BucketProfile.start >= RequestWindow.start,
        BucketProfile.start < RequestWindow.end,
    )
    contents = session.scalars(
        select(BucketProfile.content)
        .ext(distinct_on(BucketProfile.start))
        .where(
            BucketProfile.version_id == request.version_id,
            BucketProfile.family == "performance",
            linked,
        )
        .order_by(BucketProfile.start, BucketProfile.binning_id.desc())
    )
    by_label = np.zeros(len(version.classes), dtype=np.int64)
    for content in contents:
        profile = performance_from_bytes(content)
        if isinstance(profile, RegressionProfile):
            return None
        if len(profile.confusion) != len(by_label):
            # It was made before the version's classes were known.
            continue
        by_label += profile.confusion.sum(axis=1)
    # They are stored in the order of the profiles: of two the negative class first.
    return dict(zip(version.classes, by_label.tolist(), strict=True))
