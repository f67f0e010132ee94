"""Arrivals become dirty buckets, and no label is lost however it races its prediction."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.arrivals import collect_arrivals
from service.ingest.tables import PredictionIdentity
from service.ledger.tables import Arrival, DueWork

Sessions = sessionmaker[Session]
HOUR = datetime(2026, 11, 1, 10, tzinfo=UTC)


def _arrive(sessions: Sessions, **fields: Any) -> None:
    with sessions.begin() as session:
        session.add(Arrival(model_id=1, **fields))


def _identify(sessions: Sessions, prediction_id: str, version_id: int = 7) -> None:
    with sessions.begin() as session:
        session.add(
            PredictionIdentity(
                model_id=1,
                prediction_id=prediction_id,
                version_id=version_id,
                ts=HOUR + timedelta(minutes=20),
                content_hash=1,
            )
        )


def _collect(sessions: Sessions) -> Any:
    with sessions.begin() as session:
        collect_arrivals(session)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Arrival)) == 0
        found = session.execute(
            select(DueWork.kind, DueWork.version_id, DueWork.start).order_by(DueWork.kind)
        )
        return [tuple(row) for row in found]


def test_rows_dirty_both_profiles_of_their_bucket(sessions: Sessions) -> None:
    for _ in range(3):
        _arrive(sessions, version_id=7, bucket=HOUR, kind="rows")
    assert _collect(sessions) == [("bucket_labels", 7, HOUR), ("bucket_rows", 7, HOUR)]


def test_labels_leave_the_features_alone(sessions: Sessions) -> None:
    _arrive(sessions, version_id=7, bucket=HOUR, kind="labels")
    assert _collect(sessions) == [("bucket_labels", 7, HOUR)]


def test_a_label_whose_prediction_was_committed_meanwhile_finds_its_bucket(
    sessions: Sessions,
) -> None:
    _arrive(sessions, version_id=None, bucket=None, kind="labels", pending=["a", "b"])
    _identify(sessions, "b")
    assert _collect(sessions) == [("bucket_labels", 7, HOUR)]


def test_a_label_of_a_prediction_that_two_versions_made_dirties_both(sessions: Sessions) -> None:
    _arrive(sessions, version_id=None, bucket=None, kind="labels", pending=["a"])
    _identify(sessions, "a", version_id=7)
    _identify(sessions, "a", version_id=8)
    assert _collect(sessions) == [("bucket_labels", 7, HOUR), ("bucket_labels", 8, HOUR)]


def test_a_label_without_a_prediction_is_left_to_the_prediction_s_arrival(
    sessions: Sessions,
) -> None:
    _arrive(sessions, version_id=None, bucket=None, kind="labels", pending=["a"])
    assert _collect(sessions) == []
    _identify(sessions, "a")
    _arrive(sessions, version_id=7, bucket=HOUR, kind="rows")
    assert ("bucket_labels", 7, HOUR) in _collect(sessions)
