"""Killed between sending and settling, again and again: every event arrives, under its one id."""

import subprocess
import sys
from pathlib import Path

from sqlalchemy import func, select

from service.webhooks.tables import Outbox
from tests.conftest import sized
from tests.integration.webhooks.receiver import Sessions, add_webhook, make_due, receiving, tell

ROOT = Path(__file__).parents[3]
EVENTS, KILLS = 6, sized(default=2, full=40)


def start(database_url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.webhooks.sending_process", database_url],
        cwd=ROOT,
    )


def left(sessions: Sessions) -> int:
    with sessions() as session:
        pending = select(func.count()).where(Outbox.delivered_at.is_(None))
        return session.scalar(pending) or 0


def test_the_receivers_distinct_ids_are_the_events(sessions: Sessions, database_url: str) -> None:
    with receiving() as receiver:
        add_webhook(sessions, "ci", receiver.url)
        for number in range(EVENTS):
            tell(sessions, number)
        for _ in range(KILLS):
            receiver.hold.clear()
            process = start(database_url)
            # The request is here and unanswered: nothing of it is settled yet.
            assert receiver.arrived.acquire(timeout=60)
            process.kill()
            process.wait()
            receiver.hold.set()
        while receiver.arrived.acquire(blocking=False):
            pass
        make_due(sessions)
        process = start(database_url)
        try:
            while left(sessions):
                make_due(sessions)
                receiver.arrived.acquire(timeout=1)
                assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    assert set(receiver.ids) == {f"event-{number}" for number in range(EVENTS)}
    assert len(receiver.ids) > EVENTS, "at least one was sent twice, under the same id"
