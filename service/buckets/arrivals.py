"""From what ingest appended to the buckets that must be profiled again."""

from collections import defaultdict

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.ingest.tables import PredictionIdentity
from service.ledger.calendar import BUCKET, bucket_start
from service.ledger.marks import Item, mark
from service.ledger.tables import Arrival

BATCH = 2_000


def collect_arrivals(session: Session) -> int:
    """Turn arrivals into dirty buckets, and return how many there were.

    A label whose prediction was not committed when it came is looked for again: if it is still
    missing now, the prediction's own arrival, which must come later, will find the label.
    """
    ids = session.scalars(
        select(Arrival.id).order_by(Arrival.id).limit(BATCH).with_for_update(skip_locked=True)
    ).all()
    if not ids:
        return 0
    arrivals = session.scalars(delete(Arrival).where(Arrival.id.in_(ids)).returning(Arrival)).all()
    rows: set[Item] = set()
    labels: set[Item] = set()
    pending: dict[int, set[str]] = defaultdict(set)
    for arrival in arrivals:
        if arrival.bucket is None or arrival.version_id is None:
            pending[arrival.model_id].update(arrival.pending or ())
            continue
        item = Item(arrival.model_id, arrival.version_id, arrival.bucket, arrival.bucket + BUCKET)
        labels.add(item)
        if arrival.kind == "rows":
            rows.add(item)
    for model_id, prediction_ids in pending.items():
        labels |= _buckets_of(session, model_id, sorted(prediction_ids))
    mark(session, "bucket_rows", rows)
    mark(session, "bucket_labels", labels)
    return len(ids)


def _buckets_of(session: Session, model_id: int, prediction_ids: list[str]) -> set[Item]:
    found = session.execute(
        select(PredictionIdentity.version_id, PredictionIdentity.ts).where(
            PredictionIdentity.model_id == model_id,
            PredictionIdentity.prediction_id.in_(prediction_ids),
        )
    )
    return {
        Item(model_id, version_id, bucket_start(ts), bucket_start(ts) + BUCKET)
        for version_id, ts in found
    }
