"""A batch of many months that are not there yet, and everybody else."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from service.ingest import partitions
from service.ingest.batch import Batch
from service.ingest.store import Store
from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction

MONTHS = [f"{year}-{month:02d}-03T00:00:00Z" for year in (2024, 2025) for month in range(1, 13)]


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every month takes so long that others have their turn after it."""
    monkeypatch.setattr(partitions, "MAKE_SECONDS", 0.0)


def rows(prefix: str, **overrides: Any) -> list[dict[str, Any]]:
    made = [a_prediction(f"{prefix}{n}", ts=ts, **overrides) for n, ts in enumerate(MONTHS)]
    return [*made, *(a_prediction(f"{prefix}-{n}", ts=ts) for n, ts in enumerate(MONTHS))]


def test_rows_of_many_new_months_are_all_decided_and_nobody_waits_for_all_of_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    commit = Store.commit

    def counted(store: Store, batches: Sequence[Batch]) -> None:
        turns.append(len(batches))
        commit(store, batches)

    monkeypatch.setattr(Store, "commit", counted)

    async def body(api: Api) -> None:
        await api.predictions(a_prediction("there"))
        turns.clear()
        before = (await api.predictions(a_prediction("known", ts=MONTHS[7]))).json()
        assert before["accepted"] == 1
        bad = a_prediction("bad", ts="yesterday")
        again = a_prediction("known", ts=MONTHS[7])
        conflict = a_prediction("there", score=0.1)
        sent = asyncio.ensure_future(api.predictions(*rows("a"), bad, again, conflict))
        others = 0
        while not sent.done():
            answer = await api.predictions(a_prediction(f"other{others}"))
            assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
            others += 1
        assert others
        # Each month but one, which was there, had a turn of its own.
        assert sum(turns) - others >= len(MONTHS) - 1
        answer = (await sent).json()
        assert (answer["accepted"], answer["duplicates"]) == (2 * len(MONTHS), 1)
        assert [refused["code"] for refused in answer["rejected"]] == [
            "bad-timestamp",
            "conflicting-duplicate",
        ]
        assert api.query("SELECT count(*) FROM prediction") == [(2 * len(MONTHS) + 2 + others,)]
        assert api.query("SELECT sum(rows) FROM ingest_fault") == [(2,)]

    run(body)


def test_a_batch_that_was_stored_in_parts_is_not_known_by_its_key(run: Run) -> None:
    async def body(api: Api) -> None:
        envelope = {"model": "loans", "version": "7", "records": rows("a")}
        content = json.dumps(envelope).encode()
        first = (await api.raw(content, idempotency_key="k")).json()
        assert (first["accepted"], first["duplicates"]) == (2 * len(MONTHS), 0)
        assert api.query("SELECT count(*) FROM known_batch") == [(0,)]
        second = await api.raw(content, idempotency_key="k")
        assert "idempotency-replayed" not in second.headers
        assert second.json()["duplicates"] == 2 * len(MONTHS)

    run(body)


def test_labels_beside_rows_of_new_months_are_stored_once(run: Run) -> None:
    async def body(api: Api) -> None:
        predictions, labels = await asyncio.gather(
            api.predictions(*rows("a")), api.labels(*(a_label(f"a{n}") for n in range(9)))
        )
        assert predictions.json()["accepted"] == 2 * len(MONTHS)
        assert labels.json()["accepted"] == 9
        assert api.query("SELECT count(*), count(DISTINCT prediction_id) FROM label") == [(9, 9)]

    run(body)
