"""Messages of Alertmanager that come late, and times that its clock tells wrong."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from service.retraining.receiving import LATE
from service.retraining.tables import RequestAlert
from tests.clients import TestClient
from tests.integration.retraining.alertmanager import (
    LATER,
    START,
    Sessions,
    an_alert,
    close,
    requests,
    tell,
    without_cooldown,
)
from tests.integration.seeded import add_request


def the_state(client: TestClient) -> tuple[str, bool]:
    (request,) = requests(client)
    (alert,) = request["evidence"]["alerts"]
    return alert["state"], alert["ends_at"] is None


@pytest.mark.parametrize("start", [START, "2025-11-21T08:59:59Z", LATER])
def test_a_late_copy_of_what_has_ended_does_not_fire_again(client: TestClient, start: str) -> None:
    tell(client, an_alert())
    tell(client, an_alert(status="resolved"))
    # Another Alertmanager, or a try again; of another start, if Prometheus has started again.
    assert tell(client, an_alert(startsAt=start)) == [("updated", 1)]
    assert the_state(client) == ("resolved", False)
    tell(client, an_alert(startsAt="2025-11-21T09:00:01Z"))
    assert the_state(client) == ("firing", True)


def test_a_late_copy_is_no_evidence_of_the_next_request_and_opens_none(
    client: TestClient, sessions: Sessions
) -> None:
    without_cooldown(sessions)
    ((_, first),) = tell(client, an_alert())
    assert first is not None
    tell(client, an_alert(status="resolved"))
    close(client, first)
    late = an_alert(startsAt="2025-11-21T08:59:59Z")
    assert tell(client, late) == [("updated", first)]
    second = add_request(sessions)
    assert tell(client, late, an_alert(2)) == [("updated", first), ("attached", second)]


def test_what_fires_on_under_its_old_start_long_after_its_end_was_told_fires(
    client: TestClient, sessions: Sessions
) -> None:
    """Prometheus could not reach Alertmanager, which ended the alert meanwhile."""
    tell(client, an_alert())
    tell(client, an_alert(status="resolved"))
    with sessions.begin() as session:
        earlier = datetime.now(UTC) - LATE - timedelta(seconds=1)
        session.execute(update(RequestAlert).values(received_at=earlier))
    tell(client, an_alert())
    assert the_state(client) == ("firing", True)


def test_an_end_in_the_future_holds_back_nothing_that_comes_after_it(client: TestClient) -> None:
    tell(client, an_alert())
    tell(client, an_alert(status="resolved", endsAt="9990-01-01T00:00:00Z"))
    after = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    tell(client, an_alert(startsAt=after))
    assert the_state(client) == ("firing", True)


def test_an_older_message_changes_nothing(client: TestClient) -> None:
    tell(client, an_alert(startsAt=LATER))
    tell(client, an_alert(status="resolved", endsAt="2025-11-21T08:30:00Z"))
    (request,) = requests(client)
    assert request["evidence"]["alerts"][0]["state"] == "firing"


def test_an_alert_from_the_future_mutes_nothing_that_comes_after_it(
    client: TestClient, sessions: Sessions
) -> None:
    without_cooldown(sessions)
    ((_, first),) = tell(client, an_alert(startsAt="9990-01-01T00:00:00Z"))
    assert first is not None
    tell(client, an_alert(status="resolved", startsAt="9990-01-01T00:00:00Z"))
    close(client, first)
    # Its own clock has gone on since.
    after = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    ((outcome, second),) = tell(client, an_alert(startsAt=after))
    assert (outcome, second) == ("opened", first + 1)
