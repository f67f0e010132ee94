"""Windows that are compared with other windows, from committed rows to recorded verdicts."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.errors import InvalidDocumentError
from service.ingest.tables import Label, prediction
from service.ledger.tables import Arrival
from service.registry.documents import read
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.values import VersionSpec
from service.runs.tables import Evaluation, Measurement, Window
from tests.integration.runs.bench import a_pipeline, declare, refer, work

Sessions = sessionmaker[Session]
# A Monday.
DAY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MORNING = 4 * HOUR
JUDGED = ("value", "p_value", "threshold", "reference_value")


def some_rows(seed: int, n: int = 240, *, shift: float = 0.0, flip: float = 0.1) -> pa.Table:
    """Draw rows whose second feature, prediction and label follow the first."""
    draw = np.random.default_rng(seed)
    income = draw.normal(shift, 1, n)
    score = 1 / (1 + np.exp(-2 * income))
    predicted = (score > 0.5).astype(int)
    label = np.where(draw.random(n) < flip, 1 - predicted, predicted)
    plan = np.where(draw.random(n) < score, "gold", "basic")
    return pa.table(
        {"income": income, "plan": plan, "score": score, "prediction": predicted, "label": label}
    )


class Bench:
    """The worker's steps over the test's database, and models to work for."""

    def __init__(self, sessions: Sessions, engine: Engine, url: str, scratch: Path) -> None:
        self.sessions = sessions
        self.engine = engine
        self.scratch = scratch
        self.reader = RowReader(url)
        self.pipeline = a_pipeline(sessions, self.reader)

    def register(self, model: str, version: str = "1", **monitor: Any) -> VersionSpec:
        features = [
            {"name": "income", "kind": "numeric"},
            {"name": "plan", "kind": "categorical"},
        ]
        found = declare(self.sessions, self.engine, features, model, version)
        self.configure(model, **monitor)
        return found

    def configure(self, model: str, **monitor: Any) -> None:
        with self.sessions.begin() as session:
            put_monitor(session, model, read(MonitorDocument, {"model": model, **monitor}))

    def refer(self, version: VersionSpec, rows: pa.Table) -> None:
        refer(self.sessions, version, rows, self.scratch)

    def send(
        self, version: VersionSpec, times: Sequence[datetime], rows: pa.Table, prefix: str = ""
    ) -> None:
        slots = {feature.name: feature.slot for feature in version.features}
        own = {"model_id": version.model_id, "version_id": version.version_id}
        records = [
            {
                **own,
                "prediction_id": f"{prefix}{version.version}-{at.timestamp():.3f}",
                "ts": at,
                "prediction": str(row["prediction"]),
                "score": row["score"],
                **{slot: row[name] for name, slot in slots.items()},
            }
            for at, row in zip(times, rows.to_pylist(), strict=True)
        ]
        with self.sessions.begin() as session:
            session.execute(prediction.insert(), records)
            self._arrive(session, version, times, "rows")

    def label(
        self, version: VersionSpec, times: Sequence[datetime], rows: pa.Table, prefix: str = ""
    ) -> None:
        with self.sessions.begin() as session:
            records = [
                {
                    "model_id": version.model_id,
                    "prediction_id": f"{prefix}{version.version}-{at.timestamp():.3f}",
                    "label": str(label),
                    "label_ts": at + timedelta(days=1),
                }
                for at, label in zip(times, rows["label"].to_pylist(), strict=True)
            ]
            session.execute(insert(Label), records)
            self._arrive(session, version, times, "labels")

    def _arrive(
        self, session: Session, version: VersionSpec, times: Sequence[datetime], kind: str
    ) -> None:
        own = {"model_id": version.model_id, "version_id": version.version_id, "kind": kind}
        hours = {at.replace(minute=0, second=0, microsecond=0) for at in times}
        session.add_all(Arrival(**own, bucket=hour) for hour in sorted(hours))

    def send_day(self, version: VersionSpec, day: int, *, labels: bool = True, **how: Any) -> None:
        rows = some_rows(how.pop("seed", day), **how)
        times = spread(DAY + timedelta(days=day), rows.num_rows, MORNING)
        self.send(version, times, rows)
        if labels:
            self.label(version, times, rows)

    def work(self) -> None:
        work(self.pipeline)

    def windows(self, version: VersionSpec) -> list[Window]:
        """Return the newest revision of each window, in order."""
        with self.sessions() as session:
            own = (Window.version_id == version.version_id, Window.latest)
            return list(session.scalars(select(Window).where(*own).order_by(Window.start)))

    def measurements(self, window: Window) -> list[Measurement]:
        with self.sessions() as session:
            return list(
                session.scalars(
                    select(Measurement)
                    .where(Measurement.window_id == window.id)
                    .order_by(Measurement.position)
                )
            )

    def drift(self, window: Window, subject: str = "income") -> Measurement:
        [found] = [
            m for m in self.measurements(window) if (m.metric, m.subject) == ("drift", subject)
        ]
        return found


def spread(start: datetime, n: int, length: timedelta) -> list[datetime]:
    return [start + length * i / n for i in range(n)]


@pytest.fixture
def bench(sessions: Sessions, engine: Engine, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(sessions, engine, database_url, tmp_path)
    yield made
    made.reader.close()


def test_a_window_without_a_predecessor_names_what_it_lacks(bench: Bench) -> None:
    version = bench.register("loans", reference="previous_window")
    bench.send_day(version, 0)
    bench.work()
    [first] = bench.windows(version)
    assert set(first.verdicts.values()) == {"insufficient_data"}
    said = "the previous window (2023-12-31T00:00Z to 2024-01-01T00:00Z)"
    assert [(w["code"], w["detail"]) for w in first.warnings] == [
        ("small-comparison", f"{said}: 0 rows, fewer than 100")
    ]
    reasons = {m.metric: m.reason for m in bench.measurements(first)}
    for metric in ("drift", "missing_ratio", "unseen_ratio", "roc_auc"):
        assert said in str(reasons[metric])


def test_without_any_training_reference_a_window_is_compared_with_the_one_before(
    bench: Bench,
) -> None:
    version = bench.register("loans", reference="previous_window")
    for day, shift in enumerate([0.0, 0.0, 1.0]):
        bench.send_day(version, day, shift=shift)
    bench.work()
    _, calm, moved = bench.windows(version)
    judged = {name for name, verdict in calm.verdicts.items() if verdict == "ok"}
    assert judged == {"quality", "drift", "performance"}
    # Nothing promises anything without a calibrator.
    assert calm.verdicts["estimated_performance"] == "insufficient_data"
    assert bench.drift(calm).n_reference == 240
    assert "income" in moved.drifted_features
    assert calm.warnings == moved.warnings == []


def test_few_rows_or_few_labels_before_are_no_comparison(bench: Bench) -> None:
    version = bench.register("loans", reference="previous_window")
    bench.send_day(version, 0, n=99)
    bench.send_day(version, 1, labels=False)
    bench.send_day(version, 2)
    bench.work()
    _, after_few, after_unlabelled = bench.windows(version)
    assert after_few.verdicts["drift"] == "insufficient_data"
    assert "99 rows of the reference" in str(bench.drift(after_few).reason)
    assert after_unlabelled.verdicts["drift"] == "ok"
    assert after_unlabelled.verdicts["performance"] == "insufficient_data"
    [auc] = [m for m in bench.measurements(after_unlabelled) if m.metric == "roc_auc"]
    assert auc.value is not None
    assert "no_reference: the previous window (" in str(auc.reason)


@pytest.mark.parametrize(
    ("reference", "judged_again", "others"),
    [
        ("training", [0], [1]),
        ("previous_window", [0, 1], [2]),
        ({"trailing": "2d"}, [0, 1, 2], [3]),
        ({"seasonal": "same weekday of the last 2 weeks"}, [0, 7, 14], [1]),
        ({"seasonal": "same hour of the last 3 days"}, [0, 1, 2, 3], [7]),
    ],
)
def test_a_late_row_judges_the_windows_again_that_look_back_on_it(
    bench: Bench, reference: Any, judged_again: list[int], others: list[int]
) -> None:
    version = bench.register("loans", reference=reference)
    bench.refer(version, some_rows(1000, 1000))
    days = [*judged_again, *others]
    for day in days:
        bench.send_day(version, day)
    bench.work()
    assert [window.revision for window in bench.windows(version)] == [1] * len(days)
    bench.send(version, spread(DAY + HOUR, 60, HOUR), some_rows(77, 60), prefix="late-")
    bench.work()
    again = [(w.start - DAY).days for w in bench.windows(version) if w.revision == 2]
    assert again == judged_again
    assert {w.revision for w in bench.windows(version)} <= {1, 2}


REFERENCES: list[Any] = [
    ("previous_window", [0, 1, 2, 7]),
    ({"trailing": "4d"}, [0, 1, 2, 7]),
    ({"seasonal": "same weekday of the last 2 weeks"}, [0, 1, 7, 14]),
]


@pytest.mark.parametrize(("reference", "days"), REFERENCES, ids=str)
def test_the_order_in_which_rows_and_labels_come_does_not_matter(
    bench: Bench, reference: Any, days: list[int]
) -> None:
    orders = {"straight": days, "shuffled": np.random.default_rng(5).permutation(days).tolist()}
    found = {}
    for model, order in orders.items():
        version = bench.register(model, reference=reference)
        bench.refer(version, some_rows(1000, 1000))
        for day in order:
            bench.send_day(version, day, labels=False, shift=0.1 * day)
            bench.work()
        for day in reversed(order):
            rows = some_rows(day, shift=0.1 * day)
            bench.label(version, spread(DAY + timedelta(days=day), rows.num_rows, MORNING), rows)
            bench.work()
        found[model] = [
            (window.start, window.verdicts, window.reason, *as_judged(bench, window))
            for window in bench.windows(version)
        ]
    assert len(found["straight"]) == len(days)
    assert found["shuffled"] == found["straight"]


def as_judged(bench: Bench, window: Window) -> list[tuple[Any, ...]]:
    names = ("metric", "subject", "n", "n_reference", "verdict", "reason")
    return [
        tuple(getattr(m, name) for name in names)
        + tuple(None if (v := getattr(m, n)) is None else f"{v:.9g}" for n in JUDGED)
        for m in bench.measurements(window)
    ]


def test_a_version_is_compared_with_another_in_the_same_window(bench: Bench) -> None:
    champion = bench.register("loans")
    challenger = bench.register("loans", "2", reference={"version": "1"})
    bench.refer(champion, some_rows(1000, 1000))
    bench.refer(challenger, some_rows(1001, 1000, shift=1.0))
    for day in range(2):
        bench.send_day(champion, day, seed=day, shift=3.0 * day)
        bench.send_day(challenger, day, seed=10 + day, shift=3.0 * day, flip=0.1 + 0.2 * day)
    bench.send_day(challenger, 2)
    bench.work()
    same, worse, alone = bench.windows(challenger)
    assert (same.verdicts["drift"], same.verdicts["performance"]) == ("ok", "ok")
    # More wrong predictions are other labels; both versions see the same inputs.
    assert set(worse.drifted_features) <= {"label"}
    assert worse.verdicts["performance"] == "alert"
    assert bench.drift(worse).n_reference == 240
    # What scores promise is held against the rows that the calibrator was fitted on.
    [promised] = [m for m in bench.measurements(worse) if m.metric == "estimated_accuracy"]
    assert promised.n_reference == 1000
    assert "version 1 in the same window" in str(bench.drift(alone).reason)
    # The champion is watched by its own reference.
    assert [w.verdicts["drift"] for w in bench.windows(champion)] == ["ok", "alert"]
    late = spread(DAY + timedelta(days=2), 240, MORNING)
    bench.send(champion, late, some_rows(5))
    bench.work()
    assert [w.revision for w in bench.windows(challenger)] == [1, 1, 2]
    assert bench.drift(bench.windows(challenger)[2]).verdict == "ok"


def test_a_version_that_does_not_exist_is_no_comparison(bench: Bench) -> None:
    bench.register("loans")
    with pytest.raises(InvalidDocumentError, match="no version 12; did you mean '1'"):
        bench.configure("loans", reference={"version": "12"})


def test_slices_are_compared_with_themselves_before(bench: Bench) -> None:
    monitor: dict[str, Any] = {
        "slices": [{"column": "plan"}],
        "performance": {"metrics": ["accuracy"]},
    }
    version = bench.register("loans", reference={"trailing": "2d"}, **monitor)
    for day in range(3):
        bench.send_day(version, day, n=1200, flip=0.1 + 0.2 * (day == 2))
    bench.work()
    first, *_, last = bench.windows(version)
    assert first.verdicts["slices"] == "insufficient_data"
    assert last.verdicts["slices"] == "alert"
    slices = [m for m in bench.measurements(last) if m.slice == "plan=gold"]
    assert [m.n_reference for m in slices] == [
        sum((some_rows(day, 1200)["plan"].to_numpy() == "gold").sum() for day in range(2))
    ]


SEASONAL = {"seasonal": "same hour of the last 2 weeks"}
BEFORE = timedelta(weeks=2)
CHANGED = DAY + timedelta(weeks=3)
END = CHANGED + timedelta(days=3)


def seasonal_rows(start: datetime, seed: int, shift: float) -> pa.Table:
    """Draw an hour whose volume, inputs and predictions follow the day and the week."""
    weekend, noon = start.weekday() >= 5, np.cos(2 * np.pi * (start.hour - 13) / 24)
    n = int(24 + 8 * noon) // (2 if weekend else 1)
    return some_rows(seed, n, shift=shift + 0.8 * noon - 1.2 * weekend)


def test_a_season_alerts_unless_it_is_compared_with_the_same_season(bench: Bench) -> None:
    # With this alpha 28 quiet windows are expected to have less than .1 alerts of any family.
    monitor: dict[str, Any] = {
        "window": "6h",
        "min_rows": 40,
        "drift": {"alpha": 0.001},
        "quality": {"alpha": 0.001},
        "performance": {"alpha": 0.001},
    }
    version = bench.register("loans", reference=SEASONAL, **monitor)
    hours = [DAY + i * HOUR for i in range((END - DAY) // HOUR)]
    # In the fourth week something changes on top of the season.
    tables = [seasonal_rows(hour, i, 1.5 * (hour >= CHANGED)) for i, hour in enumerate(hours)]
    bench.refer(version, pa.concat_tables(tables[: BEFORE // HOUR]))
    rows = pa.concat_tables(tables)
    times = [
        at
        for hour, table in zip(hours, tables, strict=True)
        for at in spread(hour, table.num_rows, HOUR)
    ]
    bench.send(version, times, rows)
    bench.label(version, times, rows)
    bench.work()
    windows = bench.windows(version)
    calm = [w for w in windows if DAY + BEFORE <= w.start < CHANGED]
    assert len(calm) == 28
    assert [w.reason for w in calm if "alert" in w.verdicts.values()] == []
    # Of two weeks, one window in twenty or so has some that differ by chance.
    assert [w.verdicts["drift"] for w in calm].count("ok") > 23
    moved = [w for w in windows if w.start >= CHANGED]
    # Weeks that happen to differ tell nothing; they never call a change healthy.
    assert "ok" not in {w.verdicts["drift"] for w in moved}
    assert sum("income" in w.drifted_features for w in moved) > 9
    for reference in ("training", "previous_window"):
        bench.configure("loans", reference=reference, **monitor)
        with bench.sessions.begin() as session:
            span = {"from_": calm[0].start, "until": CHANGED}
            session.add(Evaluation(model_id=version.model_id, alert=False, **span))
        bench.work()
        again = [w for w in bench.windows(version) if calm[0].start <= w.start < CHANGED]
        assert sum(w.verdicts["drift"] == "alert" for w in again) > 14, reference
