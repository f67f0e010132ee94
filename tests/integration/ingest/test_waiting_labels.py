"""Labels before their prediction: they wait, join it, or expire and are counted."""

import asyncio
from datetime import timedelta

import psycopg
from sqlalchemy.orm import Session, sessionmaker

from service.exporter.repository import pending_labels
from service.ingest.waiting import WaitingLabels
from service.telemetry import LABELS_EXPIRED
from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction

MONTH = timedelta(days=30)
NEWER = {"label": 0, "label_ts": "2026-02-02T00:00:00Z"}


def waiting(api: Api) -> list[str]:
    return [row[0] for row in api.query("SELECT prediction_id FROM pending_label ORDER BY 1")]


def grow_old(api: Api, *ids: str) -> None:
    with psycopg.connect(api.url) as connection:
        connection.execute(
            "UPDATE pending_label SET received_at = received_at - interval '31 days' "
            "WHERE prediction_id = ANY(%s)",
            (list(ids),),
        )


def expired() -> float:
    value: float = LABELS_EXPIRED.labels("loans")._value.get()
    return value


def test_a_label_waits_until_its_prediction_has_come(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("known"))
        await api.labels(a_label("known"), a_label("early"), a_label("never"))
        await api.labels(a_label("early", **NEWER))
        assert waiting(api) == ["early", "never"]
        with sessions() as session:
            assert pending_labels(session) == [("loans", 2)]
        await api.predictions(a_prediction("early"))
        WaitingLabels(sessions, MONTH).sweep()
        assert waiting(api) == ["never"]
        assert api.count("label") == 4

    run(body)


def test_a_label_that_waits_too_long_is_deleted_and_counted(
    run: Run, sessions: sessionmaker[Session]
) -> None:
    async def body(api: Api) -> None:
        await api.labels(*(a_label(name) for name in ("never", "late", "young")))
        await api.labels(a_label("never", **NEWER))
        await api.predictions(a_prediction("late"))
        grow_old(api, "never", "late")
        before = expired()
        waits = WaitingLabels(sessions, MONTH)
        assert waits.sweep()
        assert not waits.sweep()
        assert expired() - before == 2
        assert waiting(api) == ["young"]
        kept = api.query("SELECT prediction_id FROM label ORDER BY 1")
        assert kept == [("late",), ("young",)]
        # Its id is free again.
        assert (await api.labels(a_label("never", label=0))).json()["accepted"] == 1

    run(body)


def test_two_workers_expire_each_label_once(run: Run, sessions: sessionmaker[Session]) -> None:
    async def body(api: Api) -> None:
        await api.labels(*(a_label(f"n{i}") for i in range(500)))
        grow_old(api, *(f"n{i}" for i in range(500)))
        before = expired()
        sweeps = (WaitingLabels(sessions, MONTH).sweep for _ in range(4))
        await asyncio.gather(*(asyncio.to_thread(sweep) for sweep in sweeps))
        assert (expired() - before, api.count("label")) == (500, 0)

    run(body)
