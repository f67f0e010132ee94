"""Queries on retraining requests.  Every time is the database's."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    any_,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.evaluation.policy import Action
from service.registry.repository import find_version_by_id
from service.registry.tables import Model, Version
from service.registry.values import VersionSpec
from service.retraining.alertmanager import Alert
from service.retraining.tables import LIVE_STATES, RequestAlert, RequestWindow, RetrainingRequest

# Nobody reads more; whoever makes up alerts does not make a request grow without bound.
MOST_ALERTS = 500


def lock_version(session: Session, version_id: int) -> str | None:
    """Queue behind other requests for the version until the transaction ends; return its stage.

    The partial unique index alone would hold too, but an insert that it refuses burns an id.
    """
    return session.scalar(
        select(Version.stage).where(Version.id == version_id).with_for_update(key_share=True)
    )


def live_request(session: Session, version_id: int) -> int | None:
    """Return the one request of the version that a team may still be working on, locked."""
    return session.scalar(
        select(RetrainingRequest.id)
        .where(
            RetrainingRequest.version_id == version_id,
            RetrainingRequest.state.in_(LIVE_STATES),
        )
        .with_for_update()
    )


def was_closed_within(session: Session, model_id: int, span: timedelta) -> bool:
    """Say whether a request of the model was closed less than ``span`` ago."""
    recent = exists().where(
        RetrainingRequest.model_id == model_id,
        RetrainingRequest.closed_at > func.clock_timestamp() - span,
    )
    return bool(session.scalar(select(recent)))


def request_of_window(
    session: Session, version_id: int, start: datetime, end: datetime
) -> int | None:
    """Return the newest request, live or closed, that has the window as evidence."""
    return session.scalar(
        select(RetrainingRequest.id)
        .join(RequestWindow, RequestWindow.request_id == RetrainingRequest.id)
        .where(
            RetrainingRequest.version_id == version_id,
            RequestWindow.start == start,
            RequestWindow.end == end,
        )
        .order_by(RetrainingRequest.id.desc())
        .limit(1)
    )


def link_window(session: Session, request_id: int, start: datetime, end: datetime) -> None:
    """Make the window evidence of the request; repeating it changes nothing."""
    session.execute(
        pg_insert(RequestWindow)
        .values(request_id=request_id, start=start, end=end)
        .on_conflict_do_nothing()
    )


def versions_named(session: Session, names: Collection[tuple[str, str]]) -> list[VersionSpec]:
    """Return the versions of these models and names, those that there are."""
    # As arrays: thousands of pairs in an IN are more than the stack of Postgres holds.
    columns = [literal([name[at] for name in names], ARRAY(String)) for at in (0, 1)]
    named = func.unnest(*columns).table_valued("model", "version").render_derived()
    found = session.scalars(
        select(Version.id)
        .join(Model, Model.id == Version.model_id)
        .join(named, and_(named.c.model == Model.name, named.c.version == Version.name))
    )
    return [find_version_by_id(session, version_id) for version_id in found]


def alerts_of_version(
    session: Session, version_id: int, fingerprints: Collection[str]
) -> defaultdict[str, list[RequestAlert]]:
    """Return what is known of alerts, of the newest request first."""
    rows = session.scalars(
        select(RequestAlert)
        .join(RetrainingRequest, RetrainingRequest.id == RequestAlert.request_id)
        .where(
            RetrainingRequest.version_id == version_id,
            RequestAlert.fingerprint == any_(literal(list(fingerprints), ARRAY(String))),
        )
        .order_by(RetrainingRequest.id.desc())
    )
    found: defaultdict[str, list[RequestAlert]] = defaultdict(list)
    for row in rows:
        found[row.fingerprint].append(row)
    return found


def add_alerts(session: Session, request_id: int, alerts: Sequence[Alert]) -> Sequence[Alert]:
    """Make alerts evidence of the request, as many as there is room for; return those.

    One that asks for retraining takes the place of one that does not, the first that ended.
    """
    known = session.scalar(select(func.count()).where(RequestAlert.request_id == request_id)) or 0
    asking = sum(alert.retrain for alert in alerts)
    known -= _remove_not_asking(session, request_id, known + asking - MOST_ALERTS)
    kept = alerts[: max(MOST_ALERTS - known, 0)]
    session.add_all(
        RequestAlert(
            request_id=request_id,
            fingerprint=alert.fingerprint,
            name=alert.name,
            state=alert.status,
            summary=alert.summary,
            metric_labels=dict(alert.labels),
            annotations=dict(alert.annotations),
            starts_at=alert.starts_at,
            ends_at=alert.ends_at,
        )
        for alert in kept
    )
    session.flush()
    return kept


def _remove_not_asking(session: Session, request_id: int, count: int) -> int:
    if count <= 0:
        return 0
    least = (
        select(RequestAlert.fingerprint)
        .where(
            RequestAlert.request_id == request_id,
            RequestAlert.metric_labels["action"].astext.is_distinct_from(Action.RETRAIN.value),
        )
        .order_by(RequestAlert.state == "firing", RequestAlert.starts_at, RequestAlert.fingerprint)
        .limit(count)
    )
    removed = session.execute(
        delete(RequestAlert)
        .where(RequestAlert.request_id == request_id, RequestAlert.fingerprint.in_(least))
        .returning(RequestAlert.fingerprint)
        .execution_options(synchronize_session=False)
    )
    return len(removed.all())


def alerts_of(
    session: Session, request_ids: Collection[int]
) -> defaultdict[int, list[RequestAlert]]:
    """Return the alerts of each request, in the order in which they started."""
    rows = session.scalars(
        select(RequestAlert)
        .where(RequestAlert.request_id.in_(request_ids))
        .order_by(RequestAlert.request_id, RequestAlert.starts_at, RequestAlert.fingerprint)
    )
    found: defaultdict[int, list[RequestAlert]] = defaultdict(list)
    for row in rows:
        found[row.request_id].append(row)
    return found


def end_forgotten_alerts(session: Session, span: timedelta) -> int:
    """Mark alerts as resolved of which nothing was heard for as long; return how many."""
    now = func.clock_timestamp()
    ended = session.execute(
        update(RequestAlert)
        .where(RequestAlert.state == "firing", RequestAlert.received_at < now - span)
        .values(state="resolved", ends_at=now)
        .returning(RequestAlert.request_id)
    )
    return len(ended.all())


def read_clock(session: Session) -> datetime:
    """Return what the database's clock says."""
    clock: ColumnElement[datetime] = func.clock_timestamp()
    return session.scalars(select(clock)).one()


def mark_heard(session: Session, alerts: Iterable[RequestAlert]) -> None:
    """Note that alerts were heard of now; a statement a request, however many there are."""
    by_request: defaultdict[int, list[str]] = defaultdict(list)
    for alert in alerts:
        by_request[alert.request_id].append(alert.fingerprint)
    for request_id, fingerprints in by_request.items():
        session.execute(
            update(RequestAlert)
            .where(
                RequestAlert.request_id == request_id,
                RequestAlert.fingerprint == any_(literal(fingerprints, ARRAY(String))),
            )
            .values(received_at=func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )


def list_requests(
    session: Session,
    *,
    model_id: int | None = None,
    state: str | None = None,
    after: int = 0,
    limit: int = 50,
) -> Sequence[RetrainingRequest]:
    """Return requests with an id above ``after``, in the order of their ids."""
    statement = select(RetrainingRequest).where(RetrainingRequest.id > after)
    if model_id is not None:
        statement = statement.where(RetrainingRequest.model_id == model_id)
    if state is not None:
        statement = statement.where(RetrainingRequest.state == state)
    return session.scalars(statement.order_by(RetrainingRequest.id).limit(limit)).all()


def find_request(session: Session, request_id: int) -> RetrainingRequest | None:
    """Return the request with this id."""
    return session.get(RetrainingRequest, request_id)
