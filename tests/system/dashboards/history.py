"""The past of ``/metrics/models``: what the real collector says of a database wound back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.repository import LIVE_STATES
from service.alerts.tables import Incident
from service.exporter.collector import read_results, render_results
from service.ledger.tables import WorkerHeartbeat
from service.registry.tables import Version
from service.retraining.tables import RequestWindow, RetrainingRequest
from service.runs.tables import LatestWindow, Window

# What waits for labels; all else is known as soon as the window ends.
LATE = ("performance", "concept", "slice")


@dataclass(frozen=True)
class Past:
    """Every ``step`` from ``start`` to ``end``; labels came ``delay`` after their window."""

    start: datetime
    end: datetime
    step: timedelta
    delay: timedelta


def open_metrics(sessions: sessionmaker[Session], past: Past, labels: str) -> Iterator[str]:
    """Yield the past as OpenMetrics, as the scraper with these target labels would have seen it."""
    series: dict[str, list[str]] = {}
    known, samples = past.start - past.step, []
    at = past.start
    while at < past.end:
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if day > known:
            known, samples = day, _samples(exported_at(sessions, day, past.delay), labels)
        for name, key, found in samples:
            # What the exporter says of this moment would be from the future.
            now = at.timestamp()
            value = min(found, now) if name.endswith("timestamp_seconds") else found
            series.setdefault(name, []).append(f"{key} {value!r} {now:.0f}")
        at += past.step
    for name, lines in series.items():
        yield f"# TYPE {name} gauge"
        yield from lines
    yield "# EOF"


def exported_at(sessions: sessionmaker[Session], at: datetime, delay: timedelta) -> bytes:
    """Return the exposition of a past moment; nothing of the winding back stays."""
    with sessions() as session:
        _wind_back(session, at, delay)
        content = render_results(read_results(session)).content
        # It expires what was read.
        session.rollback()
    return content


def _wind_back(session: Session, at: datetime, delay: timedelta) -> None:
    session.execute(delete(LatestWindow))
    for family, until in (("data", at), ("estimate", at), ("performance", at - delay)):
        _newest(session, family, until)
    late = Incident.kind.in_(LATE)
    opened = or_(and_(~late, Incident.opened_end <= at), Incident.opened_end <= at - delay)
    closed = or_(and_(~late, Incident.closed_end <= at), Incident.closed_end <= at - delay)
    unfinished = and_(Incident.closed_end.is_(None), Incident.state.in_(LIVE_STATES))
    # In two steps, for a cause has one open incident at any moment.
    then = update(Incident).where(opened, or_(unfinished, ~closed)).values(state="then")
    session.execute(then)
    session.execute(update(Incident).where(Incident.state != "then").values(state="closed"))
    session.execute(update(Incident).where(Incident.state == "then").values(state="open"))
    asked = (
        select(func.min(RequestWindow.end))
        .where(RequestWindow.request_id == RetrainingRequest.id)
        .scalar_subquery()
    )
    session.execute(update(RetrainingRequest).where(asked > at - delay).values(state="dismissed"))
    session.execute(update(WorkerHeartbeat).values(beat_at=at))
    session.execute(
        update(Version).values(created_at=select(func.min(Window.start)).scalar_subquery())
    )


def _newest(session: Session, family: str, until: datetime) -> None:
    found: Sequence[Window] = session.scalars(
        select(Window)
        .where(Window.latest, Window.end <= until)
        .ext(distinct_on(Window.version_id))
        .order_by(Window.version_id, Window.end.desc())
    ).all()
    for window in found:
        session.add(
            LatestWindow(
                version_id=window.version_id,
                family=family,
                model_id=window.model_id,
                start=window.start,
                end=window.end,
            )
        )
    session.flush()


def _samples(content: bytes, labels: str) -> list[tuple[str, str, float]]:
    """Return each sample's name, its series as it is written, and its value."""
    found = []
    for line in content.decode().splitlines():
        if not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            name, brace, own = key.partition("{")
            found.append(
                (name, f"{name}{{{labels}{',' if brace else ''}{own or '}'}", float(value))
            )
    return found
