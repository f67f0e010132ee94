"""A retraining request says why: by the latest revisions of its windows."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from service.retraining.tables import RetrainingRequest
from service.runs.request_endpoints import router
from service.runs.tables import Window
from tests.clients import TestClient, client_of
from tests.integration.seeded import (
    DAY,
    START,
    add_incident,
    add_labels,
    add_measurement,
    add_window,
    ask,
    register,
    seed,
)

Sessions = sessionmaker[Session]


@pytest.fixture
def client(sessions: Sessions) -> Iterator[TestClient]:
    with client_of(router, sessions=sessions) as client:
        yield client


def test_a_request_bears_its_evidence_and_its_deliveries(
    client: TestClient, sessions: Sessions
) -> None:
    seed(sessions)
    page = client.get("/v1/retraining-requests", params={"model": "loans"}).json()
    assert page["next"] is None
    (request,) = page["requests"]
    assert (request["model"], request["version"], request["state"]) == ("loans", "7", "open")
    (window,) = request["evidence"]["windows"]
    assert (window["start"], window["revision"]) == ("2026-11-01T00:00:00Z", 1)
    assert window["verdicts"]["performance"] == "alert"
    alerting = [(m["metric"], m["subject"], m["value"]) for m in window["measurements"]]
    assert ("drift", "income", 0.31) in alerting
    assert ("roc_auc", None, 0.8) in alerting
    assert all(m["verdict"] == "alert" for m in window["measurements"])
    assert request["evidence"]["labelled_rows_per_class"] == {"0": 30, "1": 12}
    (delivery,) = request["deliveries"]
    assert (delivery["state"], delivery["attempts"]) == ("pending", 0)
    assert delivery["event_id"] == f"retraining-request-{request['id']}-opened"
    assert client.get(f"/v1/retraining-requests/{request['id']}").json() == request


def test_a_revised_window_revises_the_evidence(client: TestClient, sessions: Sessions) -> None:
    version = seed(sessions)
    with sessions.begin() as session:
        session.execute(update(Window).values(latest=False))
        window = add_window(session, version, revision=2)
        add_measurement(session, window, 0, metric="accuracy", value=0.5)
    (request,) = client.get("/v1/retraining-requests").json()["requests"]
    (window,) = request["evidence"]["windows"]
    assert window["revision"] == 2
    assert [m["metric"] for m in window["measurements"]] == ["accuracy"]


def test_a_request_says_where_the_loss_is_once_that_is_known(
    client: TestClient, sessions: Sessions
) -> None:
    version = register(sessions, "7")
    north = "region=north is 32.8 % of the rows and 100 % of the rise of the loss"

    def explain(day: int, metric: str, reason: str, value: float | None = 1.0) -> None:
        with sessions.begin() as session:
            window = session.scalars(select(Window).where(Window.start == START + day * DAY)).one()
            said = {"metric": metric, "reason": reason, "value": value, "verdict": None}
            add_measurement(session, window, 100, **said)

    def reason() -> str:
        (request,) = client.get("/v1/retraining-requests").json()["requests"]
        return str(request["reason"])

    with sessions.begin() as session:
        for day in range(3):
            ask(session, version, add_window(session, version, day))
    plain = reason()
    explain(2, "loss_contribution", "no single feature or slice explains the loss", None)
    assert reason() == plain
    explain(1, "estimated_loss_contribution", "the shift of age explains 40 %")
    assert reason() == f"{plain}; the shift of age explains 40 %"
    explain(0, "loss_contribution", north)
    assert reason() == f"{plain}; {north}"


def test_a_bucket_counts_once_however_many_windows_and_binnings_hold_it(
    client: TestClient, sessions: Sessions
) -> None:
    version = register(sessions, "7")
    with sessions.begin() as session:
        for day, length in ((0, 1), (0, 2), (1, 1)):
            end = START + (day + length) * DAY
            ask(session, version, add_window(session, version, day, end=end))
        add_labels(session, version, START, [900, 900], binning_revision=90)
        add_labels(session, version, START, [3, 1], binning_revision=91)
        add_labels(session, version, START.replace(day=2, hour=1), [10, 5])
        add_labels(session, version, START.replace(day=3, hour=2), [100, 100])
    (request,) = client.get("/v1/retraining-requests").json()["requests"]
    assert len(request["evidence"]["windows"]) == 3
    assert request["evidence"]["labelled_rows_per_class"] == {"0": 13, "1": 6}


def test_requests_are_filtered_and_paged_in_the_order_of_their_ids(
    client: TestClient, sessions: Sessions
) -> None:
    version = register(sessions, "7")
    opened = []
    for day in range(3):
        with sessions.begin() as session:
            session.execute(update(RetrainingRequest).values(state="dismissed"))
            opened.append(ask(session, version, add_window(session, version, day)))

    def ids(**params: str | int | None) -> tuple[list[int], str | None]:
        page = client.get("/v1/retraining-requests", params=params).json()
        return [request["id"] for request in page["requests"]], page["next"]

    assert ids() == (opened, None)
    assert ids(state="open") == (opened[2:], None)
    first, cursor = ids(limit=2)
    assert first == opened[:2]
    assert ids(limit=2, cursor=cursor) == (opened[2:], None)


def test_a_request_names_its_incidents(client: TestClient, sessions: Sessions) -> None:
    seed(sessions)
    loss = {"kind": "performance", "subject": "", "action": "retrain"}
    of_these = {"since": START, "opened_start": START, "opened_end": START + DAY}
    wanted = add_incident(sessions, **loss, **of_these)
    add_incident(sessions, **of_these)
    later = {"since": START + 9 * DAY, "opened_start": START + 9 * DAY}
    add_incident(sessions, **{**loss, "subject": "1"}, **later)
    (request,) = client.get("/v1/retraining-requests").json()["requests"]
    assert request["evidence"]["incidents"] == [wanted]


def test_a_request_is_acknowledged_started_and_dismissed(
    client: TestClient, sessions: Sessions
) -> None:
    seed(sessions)
    (request,) = client.get("/v1/retraining-requests").json()["requests"]
    address = f"/v1/retraining-requests/{request['id']}"
    said = {"by": "ana", "note": "next week"}
    seen = [client.post(f"{address}/{deed}", json=said) for deed in ("acknowledge", "start")]
    assert [answer.json()["state"] for answer in seen] == ["acknowledged", "retraining"]
    assert client.post(f"{address}/acknowledge", json=said).status_code == 409
    for _ in range(2):
        dismissed = client.post(f"{address}/dismiss", json=said).json()
        assert (dismissed["state"], dismissed["handled_by"]) == ("dismissed", "ana")
        assert dismissed["closed_at"] is not None
    assert client.post(f"{address}/start", json=said).status_code == 409
    assert client.post(f"{address}/start", json={"by": ""}).status_code == 422
    assert client.post("/v1/retraining-requests/99/start", json=said).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/retraining-requests/1", 404, "unknown-retraining-request"),
        ("/v1/retraining-requests/99999999999999999999999", 404, "unknown-retraining-request"),
        ("/v1/retraining-requests?model=nothing", 404, "unknown-model"),
        ("/v1/retraining-requests?state=lost", 422, None),
        ("/v1/retraining-requests?cursor=-1", 422, None),
        ("/v1/retraining-requests?cursor=99999999999999999999999", 422, None),
    ],
)
def test_what_does_not_exist_is_a_problem(
    client: TestClient, path: str, status: int, code: str | None
) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert code is None or answer.json()["code"] == code
