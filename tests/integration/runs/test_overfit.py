"""A loss that is as old as its version may be a reference that holds the training rows."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.runs.endpoints import router
from service.runs.overfit import SAID
from tests.clients import TestClient, client_of
from tests.integration.seeded import add_window, register

Sessions = sessionmaker[Session]
CASES = {
    "a loss from the first window on": (["insufficient_data", "alert", "alert"], [0, 1, 1]),
    "a model that decays": (["ok", "alert", "alert"], [0, 0, 0]),
    "a model that recovers": (["alert", "ok", "alert"], [1, 0, 0]),
}


@pytest.fixture
def client(sessions: Sessions) -> Iterator[TestClient]:
    with client_of(router, sessions=sessions) as client:
        yield client


def gaps(client: TestClient) -> list[int]:
    listed: list[dict[str, Any]] = client.get("/v1/models/loans/windows").json()["windows"]
    for window in listed:
        warned = "overfit-gap" in {warning["code"] for warning in window["warnings"]}
        assert warned is window["reason"].endswith(SAID)
        one = client.get(f"/v1/models/loans/windows/{window['start']}").json()
        assert {name: one[name] for name in window} == window
    return [len([w for w in window["warnings"] if w["code"] == "overfit-gap"]) for window in listed]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_only_a_loss_since_the_first_judged_window_is_a_gap(
    client: TestClient, sessions: Sessions, case: str, order: list[int]
) -> None:
    version = register(sessions, "7")
    verdicts, expected = CASES[case]
    for day in order:
        with sessions.begin() as session:
            add_window(session, version, day, verdicts={"performance": verdicts[day]}, warnings=[])
    assert gaps(client) == expected


def test_what_is_compared_with_earlier_windows_has_no_gap(
    client: TestClient, sessions: Sessions
) -> None:
    version = register(sessions, "7")
    document = MonitorDocument.model_validate({"model": "loans", "reference": "previous_window"})
    with sessions.begin() as session:
        put_monitor(session, "loans", document)
        add_window(session, version, verdicts={"performance": "alert"}, warnings=[])
    assert gaps(client) == [0]
