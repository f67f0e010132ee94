"""The ledger loses no work, doubles none, and holds windows back until they are whole."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.ledger.marks import Item, Kind, mark
from service.ledger.repository import ClaimLostError, claim_one, claim_run, finish, release, renew
from service.ledger.tables import Arrival, DueWork

Sessions = sessionmaker[Session]
HOUR = datetime(2026, 11, 1, tzinfo=UTC)
BUCKET = Item(1, 1, HOUR, HOUR + timedelta(hours=1))
WINDOW = Item(1, 1, HOUR, HOUR + timedelta(days=1))
LEASE = timedelta(minutes=1)


def _claim(sessions: Sessions, kind: Kind = "bucket_rows", lease: timedelta = LEASE) -> Any:
    with sessions.begin() as session:
        return claim_one(session, kind, worker="w", lease=lease)


def _mark(
    sessions: Sessions, kind: Kind = "bucket_rows", item: Item = BUCKET, **timing: Any
) -> None:
    with sessions.begin() as session:
        mark(session, kind, [item], **timing)


def _due(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(DueWork)) or 0


def test_finished_work_is_cleared(sessions: Sessions) -> None:
    _mark(sessions)
    claim = _claim(sessions)
    with sessions.begin() as session:
        finish(session, [claim])
    assert _due(sessions) == 0


def test_work_that_was_marked_while_it_was_done_stays_due(sessions: Sessions) -> None:
    _mark(sessions)
    claim = _claim(sessions)
    _mark(sessions)
    with sessions.begin() as session:
        finish(session, [claim])
    again = _claim(sessions)
    assert again is not None
    assert again.item == BUCKET


def test_details_are_obeyed_once(sessions: Sessions) -> None:
    _mark(sessions, details={"silent": True})
    claim = _claim(sessions)
    _mark(sessions)
    with sessions.begin() as session:
        finish(session, [claim])
    assert _claim(sessions).details == {}


def test_details_that_came_while_the_work_was_done_are_kept(sessions: Sessions) -> None:
    _mark(sessions)
    claim = _claim(sessions)
    _mark(sessions, details={"silent": True})
    with sessions.begin() as session:
        finish(session, [claim])
    assert _claim(sessions).details == {"silent": True}


def test_work_that_is_held_is_not_given_twice(sessions: Sessions) -> None:
    _mark(sessions)
    assert _claim(sessions) is not None
    assert _claim(sessions) is None


def test_work_of_a_silent_worker_is_given_to_another_and_the_first_may_not_record(
    sessions: Sessions,
) -> None:
    _mark(sessions)
    frozen = _claim(sessions, lease=timedelta(0))
    other = _claim(sessions)
    assert other is not None
    with pytest.raises(ClaimLostError), sessions.begin() as session:
        finish(session, [frozen])
    with sessions.begin() as session:
        finish(session, [other])
    assert _due(sessions) == 0


def test_a_renewed_lease_keeps_the_work(sessions: Sessions) -> None:
    _mark(sessions)
    claim = _claim(sessions, lease=timedelta(0))
    with sessions.begin() as session:
        renew(session, [claim], LEASE)
    assert _claim(sessions) is None


def test_released_work_waits_and_says_why(sessions: Sessions) -> None:
    _mark(sessions)
    claim = _claim(sessions)
    with sessions.begin() as session:
        release(session, [claim], retry_in=timedelta(hours=1), error="ValueError")
    assert _claim(sessions) is None
    with sessions() as session:
        assert session.scalar(select(DueWork.last_error)) == "ValueError"


def test_concurrent_claims_never_share_work(sessions: Sessions) -> None:
    items = [
        Item(1, 1, HOUR + timedelta(hours=i), HOUR + timedelta(hours=i + 1)) for i in range(10)
    ]
    with sessions.begin() as session:
        mark(session, "bucket_rows", items)
    with sessions.begin() as one, sessions.begin() as other:
        first = claim_run(one, "bucket_rows", worker="a", lease=LEASE, span=timedelta(hours=4))
        second = claim_run(other, "bucket_rows", worker="b", lease=LEASE, span=timedelta(hours=99))
    assert len(first) == 4
    assert len(second) == 6
    assert not {c.id for c in first} & {c.id for c in second}


@pytest.mark.parametrize("kind", ["bucket_rows", "bucket_labels"])
def test_a_window_waits_for_its_dirty_buckets(sessions: Sessions, kind: Kind) -> None:
    _mark(sessions, "window", WINDOW, after_end=timedelta(0))
    _mark(sessions, kind)
    assert _claim(sessions, "window") is None
    bucket = _claim(sessions, kind)
    with sessions.begin() as session:
        finish(session, [bucket])
    assert _claim(sessions, "window") is not None


@pytest.mark.parametrize(
    ("bucket", "held"),
    [(HOUR, True), (None, True), (HOUR + timedelta(days=1), False)],
    ids=["its own", "a label that is not resolved", "of the next window"],
)
def test_a_window_waits_for_arrivals_that_nobody_has_collected(
    sessions: Sessions, bucket: datetime | None, held: bool
) -> None:
    _mark(sessions, "window", WINDOW, after_end=timedelta(0))
    with sessions.begin() as session:
        session.add(
            Arrival(model_id=1, version_id=1 if bucket else None, bucket=bucket, kind="labels")
        )
    assert (_claim(sessions, "window") is None) is held


def test_a_window_is_not_due_before_its_end_and_grace(sessions: Sessions) -> None:
    with sessions() as session:
        now = session.scalars(select(func.now())).one()
    ended = Item(1, 1, now - timedelta(hours=2), now - timedelta(minutes=10))
    _mark(sessions, "window", ended, after_end=timedelta(minutes=15))
    assert _claim(sessions, "window") is None
    _mark(sessions, "window", ended, after_end=timedelta(minutes=5))
    assert _claim(sessions, "window") is not None


def test_a_window_that_is_not_quiet_is_put_off_but_not_for_ever(sessions: Sessions) -> None:
    quiet = timedelta(hours=1)
    _mark(sessions, "window", WINDOW, after_end=timedelta(0), quiet=quiet)
    assert _claim(sessions, "window") is None
    with sessions.begin() as session:
        row = session.scalars(select(DueWork)).one()
        row.first_marked_at -= timedelta(hours=31)
    _mark(sessions, "window", WINDOW, after_end=timedelta(0), quiet=quiet)
    assert _claim(sessions, "window") is not None


def test_work_that_is_wanted_now_does_not_wait(sessions: Sessions) -> None:
    _mark(sessions, "window", WINDOW, after_end=timedelta(0), quiet=timedelta(hours=1))
    _mark(sessions, "window", WINDOW, details={"silent": True})
    claim = _claim(sessions, "window")
    assert claim is not None
    assert claim.details == {"silent": True}
