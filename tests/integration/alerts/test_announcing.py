"""Whoever listens is told once that an incident opens, and once that it closes."""

from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.announcing import announce_changes
from service.alerts.tables import Incident
from service.registry.tables import Version
from service.retraining.repository import lock_version
from service.webhooks.tables import Outbox
from tests.integration.seeded import add_incident, register
from tests.integration.webhooks.receiver import add_webhook

Sessions = sessionmaker[Session]
BOTH = ["incident.opened", "incident.closed"]


@pytest.fixture
def version_id(sessions: Sessions) -> int:
    add_webhook(sessions, "pager", events=BOTH)
    add_webhook(sessions, "ci")
    return register(sessions, "7").version_id


def announced(sessions: Sessions, version_id: int) -> list[tuple[str, dict[str, Any]]]:
    """Announce what changed, and return all that was ever told."""
    with sessions.begin() as session:
        lock_version(session, version_id)
        announce_changes(session, version_id)
    with sessions() as session:
        rows = session.scalars(select(Outbox).order_by(Outbox.id)).all()
        return [(row.dedupe_key, row.event) for row in rows]


def change(sessions: Sessions, **values: Any) -> None:
    with sessions.begin() as session:
        session.execute(update(Incident).values(**values))


def test_it_is_told_when_it_opens_when_it_closes_and_when_it_opens_again(
    sessions: Sessions, version_id: int
) -> None:
    number = add_incident(sessions)
    for _ in range(2):
        ((event_id, event),) = announced(sessions, version_id)
    assert event_id == event["id"] == f"incident-{number}-1"
    assert event["type"] == "dev.modelwatch.incident.opened.v1"
    assert event["subject"] == "loans@7"
    assert event["data"]["subject"] == "income"
    assert event["data"]["metric"] is None
    assert event["data"]["evidence_url"] == f"/v1/incidents/{number}"
    change(sessions, state="acknowledged")
    assert len(announced(sessions, version_id)) == 1
    change(sessions, state="closed", outcome="recovered")
    assert announced(sessions, version_id)[1][1]["type"] == "dev.modelwatch.incident.closed.v1"
    assert announced(sessions, version_id)[1][1]["data"]["outcome"] == "recovered"
    change(sessions, state="open", outcome=None)
    told = announced(sessions, version_id)
    assert [event_id for event_id, _ in told] == [f"incident-{number}-{n}" for n in (1, 2, 3)]


def test_what_came_and_went_unseen_is_no_news(sessions: Sessions, version_id: int) -> None:
    add_incident(sessions, state="closed", outcome="withdrawn")
    assert announced(sessions, version_id) == []


def test_of_a_shadow_nobody_is_told_until_it_is_live(sessions: Sessions, version_id: int) -> None:
    with sessions.begin() as session:
        session.execute(update(Version).values(stage="shadow"))
    add_incident(sessions)
    assert announced(sessions, version_id) == []
    with sessions.begin() as session:
        session.execute(update(Version).values(stage="live"))
    assert len(announced(sessions, version_id)) == 1
