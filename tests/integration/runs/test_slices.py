"""Slices and fairness from committed rows to recorded verdicts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.buckets.tables import BucketProfile
from service.errors import InvalidDocumentError
from service.ingest.tables import Label, prediction
from service.ledger.marks import Item, mark
from service.ledger.tables import Arrival
from service.registry.documents import read
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.runs.leases import LeaseKeeper
from service.runs.row_stage import RowStage
from service.runs.tables import Measurement, Window
from tests.integration.runs.bench import LEASE, a_pipeline, declare, refer, work

Sessions = sessionmaker[Session]
DAY = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 4000
MONITOR: dict[str, Any] = {
    "discover_slices": False,
    "model": "loans",
    "performance": {"metrics": ["accuracy", "recall"]},
    "slices": [
        {"column": "region"},
        {"column": ["region", "tags.channel"]},
        {
            "name": "big-tickets",
            "where": "amount > 1.2 and tags.channel = 'web'",
            "critical": True,
            "metric": "recall",
            "floor": 0.8,
        },
    ],
    "fairness": [{"column": "region", "min_disparate_impact": 0.8}],
}
REGIONS = ["north", "south", "west"]
Rows = dict[str, Any]


def some_rows(seed: int, n: int = ROWS, *, errors: float = 0.1) -> Rows:
    """Draw rows; the west is 5 % of them."""
    draw = np.random.default_rng(seed)
    rows: Rows = {
        "region": draw.choice(REGIONS, n, p=[0.5, 0.45, 0.05]),
        "tags.channel": draw.choice(["web", "app"], n),
        "amount": draw.normal(0, 1, n),
        "prediction": (draw.random(n) < 0.5).astype(int),
    }
    return with_errors(rows, seed + 1, np.full(n, errors))


def with_errors(rows: Rows, seed: int, share: Any) -> Rows:
    wrong = np.random.default_rng(seed).random(len(share)) < share
    return {**rows, "label": np.where(wrong, 1 - rows["prediction"], rows["prediction"])}


class Bench:
    """A model with slices, and the worker's steps over the test's database."""

    def __init__(
        self, sessions: Sessions, engine: Engine, database_url: str, scratch: Path
    ) -> None:
        self.sessions = sessions
        self.reader = RowReader(database_url)
        self.pipeline = a_pipeline(sessions, self.reader)
        features = [
            {"name": "region", "kind": "categorical"},
            {"name": "amount", "kind": "numeric"},
        ]
        self.version = declare(sessions, engine, features)
        self.slots = {feature.name: feature.slot for feature in self.version.features}
        refer(sessions, self.version, pa.table(some_rows(100, 20_000)), scratch)

    def configure(self, **changes: Any) -> None:
        with self.sessions.begin() as session:
            put_monitor(session, "loans", read(MonitorDocument, {**MONITOR, **changes}))

    def send(self, rows: Rows, day: datetime = DAY) -> None:
        n = len(rows["label"])
        step = timedelta(days=1) / n
        own = {"model_id": self.version.model_id}
        with self.sessions.begin() as session:
            session.execute(
                prediction.insert(),
                [
                    {
                        **own,
                        "version_id": self.version.version_id,
                        "prediction_id": f"{day:%j}-{i}",
                        "ts": day + i * step,
                        "prediction": str(rows["prediction"][i]),
                        "tags": {"channel": str(rows["tags.channel"][i])},
                        self.slots["region"]: str(rows["region"][i]),
                        self.slots["amount"]: float(rows["amount"][i]),
                    }
                    for i in range(n)
                ],
            )
            session.add_all(
                Label(**own, prediction_id=f"{day:%j}-{i}", label=str(value), label_ts=day)
                for i, value in enumerate(rows["label"])
            )
            for hour in range(24):
                at = day + timedelta(hours=hour)
                own_version = {"version_id": self.version.version_id, "bucket": at}
                session.add(Arrival(**own, **own_version, kind="rows"))

    def work(self) -> Window:
        work(self.pipeline)
        with self.sessions() as session:
            return session.scalars(select(Window).where(Window.latest)).one()

    def judge_again(self) -> Window:
        with self.sessions.begin() as session:
            item = Item(
                self.version.model_id, self.version.version_id, DAY, DAY + timedelta(days=1)
            )
            mark(session, "window", [item])
        return self.work()

    def measured(self, window: Window) -> dict[tuple[str, str | None], Measurement]:
        with self.sessions() as session:
            rows = session.scalars(select(Measurement).where(Measurement.window_id == window.id))
            return {(row.metric, row.slice or row.subject): row for row in rows}


@pytest.fixture
def bench(sessions: Sessions, engine: Engine, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(sessions, engine, database_url, tmp_path)
    yield made
    made.reader.close()


def test_a_slice_of_five_percent_breaks_and_the_average_is_ok(bench: Bench) -> None:
    bench.configure()
    rows = some_rows(1)
    west = rows["region"] == "west"
    bench.send(with_errors(rows, 2, np.where(west, 0.35, 0.1)))
    window = bench.work()
    assert (window.verdicts["performance"], window.verdicts["slices"]) == ("ok", "alert")
    assert window.verdicts["fairness"] == "ok"
    assert window.action == "watch"
    assert "region=west" in window.reason
    assert window.alerting_metrics == []
    found = bench.measured(window)
    alerting = {name for (_, name), row in found.items() if row.verdict == "alert"}
    assert "region=west" in alerting
    assert all(name and name.startswith("region=west") for name in alerting)
    accuracy = found["accuracy", "region=west"]
    assert accuracy.n == west.sum()
    assert accuracy.ci_low is not None
    assert accuracy.reference_value == pytest.approx(0.9, abs=0.03)
    crossed = found["accuracy", "region=north & tags.channel=web"]
    chosen = (rows["region"] == "north") & (rows["tags.channel"] == "web")
    assert (crossed.n, crossed.verdict) == (chosen.sum(), "ok")
    assert found["selection_rate", "region=west"].verdict is None
    assert found["disparate_impact", "region"].verdict == "ok"


def test_a_critical_slice_under_its_floor_asks_for_a_retraining_while_the_average_rises(
    bench: Bench,
) -> None:
    bench.configure()
    rows = some_rows(1)
    big = (rows["amount"] > 1.2) & (rows["tags.channel"] == "web")
    bench.send(with_errors(rows, 2, np.where(big, 0.45, 0.04)))
    window = bench.work()
    found = bench.measured(window)
    average, recall = found["accuracy", None], found["recall", "big-tickets"]
    assert average.value is not None
    assert average.reference_value is not None
    assert average.value > average.reference_value
    assert (recall.verdict, recall.reason, recall.threshold) == ("alert", "under_floor", 0.8)
    assert (window.verdicts["performance"], window.verdicts["slices"]) == ("ok", "alert")
    assert window.action == "retrain"
    assert "recall of big-tickets" in window.reason


def test_a_changed_document_has_its_buckets_profiled_again(bench: Bench) -> None:
    bench.send(some_rows(1))
    assert "slices" not in bench.work().verdicts
    bench.configure()
    first = bench.judge_again()
    assert first.verdicts["slices"] == "ok"
    bench.configure(slices=[{"name": "small", "where": "not amount > 1"}], fairness=[])
    second = bench.judge_again()
    assert ("accuracy", "small") in bench.measured(second)
    assert "fairness" not in second.verdicts
    with bench.sessions() as session:
        families = set(session.scalars(select(BucketProfile.family)))
    assert len({family for family in families if family.startswith("slices:")}) == 1
    # A floor is judged by what is there already.
    bench.configure(slices=[{"name": "small", "where": "not amount > 1", "critical": True,
                             "metric": "accuracy", "floor": 0.99}], fairness=[])  # fmt: skip
    assert bench.judge_again().verdicts["slices"] == "alert"


def test_a_slice_of_a_feature_that_no_version_has_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidDocumentError, match="did you mean 'region'"):
        bench.configure(slices=[{"column": "regoin"}])
    with pytest.raises(InvalidDocumentError, match="did you mean 'amount'"):
        bench.configure(slices=[{"name": "x", "where": "amout > 1 and label = 1"}])
    with pytest.raises(InvalidDocumentError, match="fairness"):
        bench.configure(fairness=[{"column": "sex"}])


def test_a_tag_may_have_any_value_and_a_row_may_have_none(bench: Bench) -> None:
    bench.configure(slices=[{"column": "tags.channel"}], fairness=[])
    rows = some_rows(1)
    strange = "50% 'off' \\ \"x\" = & "
    rows["tags.channel"] = np.where(np.arange(ROWS) % 2 == 0, strange, "web")
    bench.send(rows)
    found = bench.measured(bench.work())
    odd = found["accuracy", f"tags.channel={strange}"]
    assert (odd.n, odd.reason) == (ROWS // 2, "no_reference")
    assert found["accuracy", "tags.channel=app"].reason == "no_rows"
    assert found["accuracy", "tags.channel=web"].verdict == "ok"


def test_a_slice_of_five_percent_that_nobody_declared_is_found_by_its_name(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.findings.ROW_STAGE_DELAY", timedelta(0))
    bench.pipeline._row_stage = True
    bench.configure(slices=[], fairness=[], discover_slices=True)
    rows = some_rows(1, 6000)
    west = rows["region"] == "west"
    bench.send(with_errors(rows, 2, np.where(west, 0.35, 0.1)))
    assert "slices" not in bench.work().verdicts
    leases = LeaseKeeper(bench.sessions, "test", LEASE)
    stage = RowStage(bench.sessions, database_url, leases, worker="test", lease=LEASE)
    monkeypatch.setattr(stage, "_call", lambda function, *rest: function(*rest))
    monkeypatch.setattr("service.runs.row_material.measure", lambda *_: [])
    while stage._work_once():
        window = bench.work()
    stage._reader.close()
    found = bench.measured(window)
    assert (window.verdicts["performance"], window.verdicts["slices"]) == ("ok", "alert")
    assert window.action == "watch"
    assert "accuracy of region=west" in window.reason
    measured = found["accuracy", "region=west"]
    assert (measured.method, measured.engine) == ("discovered", "labelled_rows")
    assert found["discovered_slices", None].value == 1
    assert measured.reference_value == pytest.approx(0.9, abs=0.05)
    assert measured.n < west.sum()
    share = found["loss_contribution", "region=west"]
    assert share.value is not None
    assert share.ci_low is not None
    # It may be over 1: by chance other rows got better.
    assert share.value > 0.5
    assert share.ci_low > 0.06
    assert share.reason is not None
    assert share.reason.startswith("region=west is 5.")
