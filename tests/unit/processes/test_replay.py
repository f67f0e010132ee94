import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from service.processes.replay import Pace, Plan, Replay, Totals
from service.processes.replay_source import Batch, Options, Source
from service.processes.sender import Sender

Document = dict[str, Any]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


class RecordingSender:
    """Takes everything, and remembers it; ids it has seen are duplicates."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self._seen: set[tuple[str, str]] = set()

    def send(self, _method: str, path: str, document: Document) -> Document:
        ids = [(path, record["prediction_id"]) for record in document["records"]]
        new = [one for one in ids if one not in self._seen]
        self._seen.update(new)
        self.sent.append((path, [record["prediction_id"] for record in document["records"]]))
        return {"accepted": len(new), "duplicates": len(ids) - len(new), "rejected": []}


class ListSource:
    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def batches(self) -> Iterator[Batch]:
        return iter(self._batches)


def a_batch(day: int, delay_days: int) -> Batch:
    ts = FIRST + timedelta(days=day)
    known = ts + timedelta(days=delay_days)
    return Batch([{"prediction_id": f"p{day}"}], [(known, {"prediction_id": f"p{day}"})], ts)


def a_replay(sender: RecordingSender, **plan: Any) -> Replay:
    options = Options(columns={})
    return Replay(
        Plan(Path("rows.csv"), "loans", "7", "http://x", options, **plan), cast("Sender", sender)
    )


def replayed(batches: list[Batch], **plan: Any) -> tuple[list[tuple[str, list[str]]], Totals]:
    sender = RecordingSender()
    totals = a_replay(sender, **plan).run(cast("Source", ListSource(batches)), lambda _rows: None)
    return sender.sent, totals


def test_a_label_is_sent_once_the_predictions_have_reached_its_time() -> None:
    sent, _ = replayed([a_batch(day, 2) for day in range(4)])
    assert sent == [
        ("/v1/predictions", ["p0"]),
        ("/v1/predictions", ["p1"]),
        ("/v1/predictions", ["p2"]),
        ("/v1/labels", ["p0"]),
        ("/v1/predictions", ["p3"]),
        ("/v1/labels", ["p1"]),
        ("/v1/labels", ["p2", "p3"]),
    ]


def test_a_label_of_the_future_is_not_sent_but_counted() -> None:
    sent, totals = replayed([a_batch(0, 365 * 100)])
    assert sent == [("/v1/predictions", ["p0"])]
    assert totals.not_due == 1


def test_labels_only_sends_no_prediction() -> None:
    sent, _ = replayed([a_batch(0, 0)], predictions=False)
    assert sent == [("/v1/labels", ["p0"])]


def test_no_labels_sends_no_label() -> None:
    sent, _ = replayed([a_batch(0, 0)], labels=False)
    assert sent == [("/v1/predictions", ["p0"])]


def test_a_second_replay_counts_duplicates_only() -> None:
    sender = RecordingSender()
    batches = [a_batch(day, 1) for day in range(3)]
    a_replay(sender).run(cast("Source", ListSource(batches)), lambda _rows: None)
    totals = a_replay(sender).run(cast("Source", ListSource(batches)), lambda _rows: None)
    assert totals.predictions == {"accepted": 0, "duplicates": 3, "rejected": 0}
    assert totals.labels == {"accepted": 0, "duplicates": 3, "rejected": 0}


def test_a_pace_waits_for_the_recorded_time_over_the_factor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    waited: list[float] = []
    pace = Pace(3600.0, sleep=waited.append)
    for hour in (0, 1, 5):
        pace.wait_for(FIRST + timedelta(hours=hour))
    assert waited == pytest.approx([1.0, 5.0])


def test_without_a_factor_nothing_is_waited_for() -> None:
    waited: list[float] = []
    pace = Pace(0.0, sleep=waited.append)
    pace.wait_for(FIRST)
    pace.wait_for(FIRST + timedelta(days=1))
    assert waited == []
