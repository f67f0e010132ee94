import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from service.processes.files import SourceError
from service.processes.replay import Pace, Plan, Replay
from service.processes.sender import AllRejectedError, Sender
from service.processes.table_records import Batch, Options, Source
from service.processes.transfer import Totals, compare_columns

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


PLAN = Plan(Path("rows.csv"), "loans", "7", "http://x", Options(columns={}))


def test_columns_that_the_version_lacks_are_one_error_that_names_five_and_the_way_out() -> None:
    extra = [f"c{column}" for column in range(7)]
    with pytest.raises(SourceError) as raised:
        compare_columns(PLAN, "rows.csv", ["income", *extra], ["income"])
    message = str(raised.value)
    assert "no features of loans 7: c0, c1, c2, c3, c4 and 2 more;" in message
    assert "--ignore COLUMN" in message
    assert "--id-column COLUMN" in message


def test_features_that_the_file_lacks_are_a_warning_of_one_line() -> None:
    warning = compare_columns(PLAN, "rows.csv", ["income"], ["income", "age", "region"])
    assert warning is not None
    assert warning.endswith("will count as missing: age, region")
    assert "\n" not in warning


def test_the_same_columns_in_another_order_are_all_right() -> None:
    assert compare_columns(PLAN, "rows.csv", ["age", "income"], ["income", "age"]) is None


def a_refusal(code: str, number: int) -> Document:
    return {
        "index": number, "prediction_id": f"p{number}", "field": "score", "code": code,
        "detail": f"said of {code}",
    }  # fmt: skip


def test_refused_rows_are_counts_by_code_with_an_example_each() -> None:
    totals = Totals()
    refused = [a_refusal("bad-score", 4), a_refusal("conflicting-duplicate", 5)]
    more = [a_refusal("conflicting-duplicate", 6)]
    totals.add(totals.predictions, {"accepted": 8, "duplicates": 0, "rejected": refused}, 10)
    totals.add(totals.predictions, {"accepted": 9, "duplicates": 0, "rejected": more}, 10)
    assert totals.rejected == 3
    assert totals.refusals() == [
        (
            "  2 conflicting-duplicate: another row with that id is stored already, with another"
            " time or other values; for example p5"
        ),
        "  1 bad-score: said of bad-score; for example p4",
    ]


class RefusingSender(RecordingSender):
    """Refuses all of each request, and names the first row only, as a long answer does."""

    def send(self, _method: str, path: str, document: Document) -> Document:
        super().send(_method, path, document)
        message = "every row was rejected"
        raise AllRejectedError(message, [a_refusal("bad-score", 0)])


def test_a_batch_of_which_nothing_is_stored_is_counted_and_the_next_is_sent() -> None:
    sender = RefusingSender()
    row = {"prediction_id": "p"}
    batches = [Batch([row, row], [], FIRST), Batch([row], [], FIRST)]
    totals = a_replay(sender).run(cast("Source", ListSource(batches)), lambda _rows: None)
    assert len(sender.sent) == 2
    assert totals.predictions == {"accepted": 0, "duplicates": 0, "rejected": 3}
    assert totals.refusals() == [
        "  2 bad-score: said of bad-score; for example p0",
        "  1 more, for which the server's answer had no room",
    ]
