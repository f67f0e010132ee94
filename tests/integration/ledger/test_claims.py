"""A claim that was lost changes nothing, and nothing of a neighbour's holds work back."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from service.ledger.marks import Item, Kind, mark
from service.ledger.repository import Claim, claim_one, claim_run, finish, release, renew
from service.ledger.tables import DueWork

Sessions = sessionmaker[Session]
HOUR = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BUCKET = Item(1, 1, HOUR, HOUR + timedelta(hours=1))
WINDOW = Item(1, 1, HOUR, HOUR + DAY)
LEASE = timedelta(minutes=1)


def _claim(sessions: Sessions, kind: Kind = "bucket_rows", lease: timedelta = LEASE) -> Claim:
    with sessions.begin() as session:
        claim = claim_one(session, kind, worker="w", lease=lease)
    assert claim is not None
    return claim


def _lose(sessions: Sessions) -> Claim:
    with sessions.begin() as session:
        mark(session, "bucket_rows", [BUCKET])
    lost = _claim(sessions, lease=timedelta(0))
    _claim(sessions)
    return lost


def _row(sessions: Sessions) -> DueWork:
    with sessions() as session:
        return session.scalars(select(DueWork)).one()


def test_a_lost_claim_gives_nothing_back(sessions: Sessions) -> None:
    lost = _lose(sessions)
    with sessions.begin() as session:
        release(session, [lost], retry_in=timedelta(0), error="ValueError")
    assert _row(sessions).claimed_by is not None
    assert _row(sessions).last_error is None


def test_a_lost_claim_is_not_renewed(sessions: Sessions) -> None:
    lost = _lose(sessions)
    before = _row(sessions).lease_until
    with sessions.begin() as session:
        renew(session, [lost], timedelta(days=1))
    assert _row(sessions).lease_until == before


def test_work_that_was_done_but_marked_again_starts_with_no_failures(sessions: Sessions) -> None:
    with sessions.begin() as session:
        mark(session, "bucket_rows", [BUCKET])
    claim = _claim(sessions)
    with sessions.begin() as session:
        mark(session, "bucket_rows", [BUCKET])
    with sessions.begin() as session:
        finish(session, [claim])
    assert _claim(sessions).attempts == 1


def test_a_run_is_of_one_version(sessions: Sessions) -> None:
    other = Item(1, 2, BUCKET.start, BUCKET.end)
    with sessions.begin() as session:
        mark(session, "bucket_rows", [BUCKET, other])
    with sessions.begin() as session:
        claims = claim_run(session, "bucket_rows", worker="w", lease=LEASE, span=DAY)
    assert len({claim.item.version_id for claim in claims}) == len(claims) == 1


@pytest.mark.parametrize(
    "bucket",
    [Item(1, 2, BUCKET.start, BUCKET.end), Item(1, 1, WINDOW.end, WINDOW.end + timedelta(hours=1))],
    ids=["of another version", "at the window's end"],
)
def test_a_window_does_not_wait_for_a_dirty_bucket_that_is_none_of_its_own(
    sessions: Sessions, bucket: Item
) -> None:
    with sessions.begin() as session:
        mark(session, "window", [WINDOW])
        mark(session, "bucket_rows", [bucket])
    assert _claim(sessions, "window").item == WINDOW
