"""Planted truths and a bank's calls: only a changed meaning of the scores alerts as concept."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from service.detection.estimates import fit_calibrators
from service.evaluation.concept import CALIBRATION_DRIFT, judge_concept
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.policy import Action
from service.evaluation.quality import QualityPolicy
from service.evaluation.window import Baseline, Policies, judge
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, Column, Kind, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.segments import Segment, chunk_segments, segment_reference

BANK = Path(__file__).resolve().parents[4] / "shared" / "data" / "bank_marketing"
TWO = Classes("0", "1")
LATITUDE = Column("latitude", Kind.NUMERIC)
POLICIES = Policies(DriftPolicy(), QualityPolicy(), PerformancePolicy())


def rows(seed: int, n: int, *, shift: float = 0.0, flipped: float = 0.0) -> pa.Table:
    """Draw a feature, the true probability as score, and labels of which some are turned round."""
    rng = np.random.default_rng(seed)
    latitude = rng.normal(shift, 1.0, n)
    score = 1 / (1 + np.exp(-2 * latitude))
    label = (rng.random(n) < score).astype(int)
    label = np.where(rng.random(n) < flipped, 1 - label, label)
    texts = {"label": label.astype(str), "prediction": (score > 0.5).astype(int).astype(str)}
    return pa.table({"latitude": latitude, "score": score, **texts})


class Bench:
    """A reference, and the judgement of windows against it."""

    def __init__(self, reference: pa.Table, columns: list[Column], chunk: int = 0) -> None:
        self.columns = columns
        self.binning: Binning = freeze_binning(reference, columns, TWO)
        whole = Segment(
            None,
            profile_features(reference, columns, self.binning),
            profile_performance(reference, self.binning),
        )
        pieces = segment_reference(reference, columns, self.binning) if chunk else ()
        self.baseline = Baseline(
            whole.features,
            whole.performance,
            chunk_segments(pieces, None, chunk) if chunk else [],
            fit_calibrators(reference, TWO),
        )

    def judge(self, window: pa.Table, labelled: pa.Table | None = None) -> Judgement:
        return judge(
            self.binning,
            self.columns,
            self.baseline,
            profile_features(window, self.columns, self.binning),
            profile_performance(window if labelled is None else labelled, self.binning),
            POLICIES,
        )


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(rows(0, 20_000), [LATITUDE], chunk=4000)


def test_input_that_moves_harmlessly_is_watched(bench: Bench) -> None:
    judged = bench.judge(rows(1, 3000, shift=0.5))
    assert judged.verdicts["drift"] is Verdict.ALERT
    assert judged.verdicts["concept"] is Verdict.OK
    assert judged.verdicts["performance"] is Verdict.OK
    assert judged.action is Action.WATCH


def test_a_concept_that_changes_asks_for_retraining_once_labels_land(bench: Bench) -> None:
    window = rows(2, 3000, flipped=0.1)
    before = bench.judge(window, window.slice(0, 0))
    assert before.verdicts["concept"] is Verdict.INSUFFICIENT_DATA
    assert before.action is Action.NONE
    after = bench.judge(window)
    assert after.verdicts["drift"] is Verdict.OK
    assert after.verdicts["estimated_performance"] is Verdict.OK
    assert after.verdicts["performance"] is Verdict.ALERT
    assert after.verdicts["concept"] is Verdict.ALERT
    assert after.action is Action.RETRAIN
    assert "the output means something else" in after.reason


def test_a_loss_that_easier_input_hides_asks_for_retraining(bench: Bench) -> None:
    """Rows far from the border keep the accuracy up while every tenth label is turned round."""
    easy = rows(3, 6000, flipped=0.07)
    far = np.abs(easy["latitude"].to_numpy()) > 0.42
    judged = bench.judge(easy.filter(pa.array(far)))
    by = {m.metric: m for m in judged.measurements if m.subject is None}
    assert by["accuracy"].verdict is Verdict.OK
    assert by["concept_drift_accuracy"].verdict is Verdict.ALERT
    assert by["concept_drift_accuracy"].reason == "less_than_promised"
    assert judged.action is Action.RETRAIN
    assert "the input moved where the reference has few rows" in judged.reason


def concept(bench: Bench, window: pa.Table, n: int | None = None) -> Mapping[str, Any]:
    measured = judge_concept(
        bench.binning,
        bench.baseline.performance,
        [chunk.performance for chunk in bench.baseline.chunks],
        bench.baseline.calibrator,
        profile_performance(window, bench.binning),
        window.num_rows if n is None else n,
        PerformancePolicy(),
    )
    return {m.metric: m for m in measured}


def test_labels_that_are_better_than_promised_are_a_harmless_change(bench: Bench) -> None:
    window = rows(4, 3000)
    sharp = window.set_column(2, "label", window["prediction"])
    found = concept(bench, sharp)
    assert found["concept_drift_accuracy"].verdict is Verdict.OK
    assert found["concept_drift_accuracy"].reason == "better_than_promised"
    assert found["concept_drift_accuracy"].value > 0.05
    # The scores do mean something else, though.
    assert found[CALIBRATION_DRIFT].verdict is Verdict.ALERT


def test_too_little_data_is_never_ok(bench: Bench) -> None:
    assert {m.reason for m in concept(bench, rows(5, 99)).values()} == {"few_rows"}
    assert {m.reason for m in concept(bench, rows(5, 200), 500).values()} == {"label_coverage"}
    bare = rows(5, 200).drop_columns("score")
    assert {m.reason for m in concept(bench, bare).values()} == {"no_scores"}
    blind = Bench(rows(0, 12), [LATITUDE])
    assert {m.reason for m in concept(blind, rows(5, 200)).values()} == {"no_calibrator"}
    for found in (concept(bench, rows(5, 99)), concept(blind, rows(5, 200))):
        assert {m.verdict for m in found.values()} == {Verdict.INSUFFICIENT_DATA}


def test_weights_that_are_all_alike_change_nothing(bench: Bench) -> None:
    window = rows(6, 1000)
    heavy = window.append_column("weight", pa.array(np.full(1000, 3.0)))
    plain, weighted = concept(bench, window), concept(bench, heavy)
    for metric, found in plain.items():
        assert weighted[metric].value == pytest.approx(found.value)
        assert weighted[metric].p_value == pytest.approx(found.p_value)


def test_a_regression_has_no_scores() -> None:
    table = pa.table({"label": [1.0, 2.0] * 100, "prediction": [1.5, 2.0] * 100})
    binning = freeze_binning(table, [], Quantity())
    profile = profile_performance(table, binning)
    policy = PerformancePolicy(metrics=("rmse",))
    assert judge_concept(binning, profile, [], None, profile, 200, policy) == []


# Months of a bank's calls: the share of successes rises tenfold, and the scores do not know.


@pytest.fixture(scope="module")
def months() -> dict[str, Judgement]:
    if not BANK.is_dir():
        pytest.skip("the data set bank_marketing is not beside the project")
    reference = as_text(pq.read_table(BANK / "replay" / "reference.parquet"))
    labels = pq.read_table(BANK / "replay" / "labels.parquet", columns=["id", "label"])
    events = pq.read_table(BANK / "replay" / "events.parquet").join(labels, "id")
    columns = [
        Column(name, Kind.CATEGORICAL if pa.types.is_large_string(kind) else Kind.NUMERIC)
        for name, kind in zip(reference.schema.names, reference.schema.types, strict=True)
        if name not in {"id", "score", "prediction", "label"}
    ]
    bench = Bench(reference, columns)
    month = pc.strftime(events["ts"], "%Y-%m")
    return {
        name: bench.judge(as_text(events.filter(pc.equal(month, name))))
        for name in sorted(pc.unique(month).to_pylist())
    }


def as_text(table: pa.Table) -> pa.Table:
    for name in ("prediction", "label"):
        text = table[name].cast(pa.string())
        table = table.set_column(table.schema.get_field_index(name), name, text)
    return table


def verdict(judged: Judgement, metric: str, subject: str | None = None) -> Verdict | None:
    (found,) = (m for m in judged.measurements if (m.metric, m.subject) == (metric, subject))
    return found.verdict


def test_the_bank_s_months_are_flagged_as_they_must_be(months: dict[str, Judgement]) -> None:
    known = json.loads((BANK / "expected.json").read_text())
    for month in known["must_flag_calibration"]:
        assert verdict(months[month], CALIBRATION_DRIFT) is Verdict.ALERT, month
    for month in known["must_flag_label_drift"]:
        assert verdict(months[month], "drift", "label") is Verdict.ALERT, month
    for month in known["must_not_flag_label_drift"]:
        assert verdict(months[month], "drift", "label") is Verdict.OK, month
        assert verdict(months[month], CALIBRATION_DRIFT) is Verdict.OK, month
    for feature, flagged in known["must_flag_feature_drift"].items():
        for month in flagged:
            assert feature in months[month].drifted_features, (feature, month)
    for month in known["small_windows_must_be_insufficient"]:
        assert set(months[month].verdicts.values()) == {Verdict.INSUFFICIENT_DATA}, month
