"""Planted truths of a regression: only other errors of the same rows alert as concept."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from service.detection.direct_loss import LOSSES, ROOTS
from service.evaluation.concept import CONCEPT_DRIFT
from service.evaluation.concept_losses import judge_loss_surprises
from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.policy import Action
from service.evaluation.quality import QualityPolicy
from service.evaluation.rows import LABELLED_ENGINE, Sampled, measure_rows
from service.evaluation.window import Baseline, Policies, judge
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Column, Kind, Quantity
from service.profiles.freeze import freeze_binning

COLUMNS = (Column("age", Kind.NUMERIC), Column("fuel", Kind.CATEGORICAL))
POLICY = PerformancePolicy(metrics=("rmse", "mae"))


def rows(seed: int, n: int, *, age: float = 5.0, errors: float = 1.0) -> pa.Table:
    """Draw prices whose errors grow with the age; ``errors`` multiplies them."""
    rng = np.random.default_rng(seed)
    ages = rng.gamma(4, age / 4, n)
    predicted = 1000 + 4000 * np.exp(-ages / 8)
    label = predicted + rng.normal(0, errors, n) * (20 + 15 * ages)
    fuel = rng.choice(["petrol", "gas"], n)
    return pa.table({"age": ages, "fuel": fuel, "prediction": predicted, "label": label})


class Bench:
    """A reference, and the judgement of windows against it, rows included."""

    def __init__(self) -> None:
        self.reference = rows(0, 2000)
        self.binning = freeze_binning(self.reference, COLUMNS, Quantity())
        self.baseline = Baseline(
            profile_features(self.reference, COLUMNS, self.binning),
            profile_performance(self.reference, self.binning),
            [],
            None,
        )
        self.policies = Policies(DriftPolicy(), QualityPolicy(), POLICY)

    def judge(self, window: pa.Table, labelled: int, *, horizon: bool | None = None) -> Judgement:
        hidden = window["label"].to_numpy().copy()
        hidden[labelled:] = np.nan
        seen = window.set_column(3, "label", pa.array(hidden, from_pandas=True))
        sampled = Sampled(self.reference, seen, COLUMNS, self.binning)
        return judge(
            self.binning,
            COLUMNS,
            self.baseline,
            profile_features(window, COLUMNS, self.binning),
            profile_performance(window.slice(0, labelled), self.binning),
            self.policies,
            findings=measure_rows(sampled, self.policies, LABELLED_ENGINE),
            horizon_passed=horizon,
        )

    def surprises(
        self, window: pa.Table, policy: PerformancePolicy = POLICY
    ) -> dict[str, Measurement]:
        sampled = Sampled(self.reference, window, COLUMNS, self.binning)
        policies = replace(self.policies, performance=policy)
        found = measure_rows(sampled, policies, LABELLED_ENGINE)
        return {
            m.metric.removeprefix(CONCEPT_DRIFT): m
            for m in found
            if m.metric.startswith(CONCEPT_DRIFT)
        }


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def test_a_concept_that_changes_while_inputs_do_not_asks_for_retraining(bench: Bench) -> None:
    judged = bench.judge(rows(1, 1000, errors=1.3), 1000)
    assert judged.verdicts["drift"] is Verdict.OK
    assert judged.verdicts["concept"] is Verdict.ALERT
    assert judged.action is Action.RETRAIN
    assert "the output means something else" in judged.reason
    found = [m for m in judged.measurements if m.metric.startswith(CONCEPT_DRIFT)]
    assert {m.metric for m in found} == {"concept_drift_rmse", "concept_drift_mae"}
    for measured in found:
        assert (measured.engine, measured.reason) == (LABELLED_ENGINE, "less_than_promised")
        assert measured.ci_low is not None
        assert measured.ci_high is not None
        assert measured.ci_low < 0.3 < measured.ci_high


def test_harder_rows_are_a_loss_but_no_other_concept(bench: Bench) -> None:
    judged = bench.judge(rows(2, 2000, age=6.0), 2000)
    assert judged.verdicts["drift"] is Verdict.ALERT
    assert judged.verdicts["performance"] is Verdict.ALERT
    assert judged.verdicts["concept"] is Verdict.OK


def test_labels_that_are_not_ripe_allow_no_verdict(bench: Bench) -> None:
    judged = bench.judge(rows(3, 1000, errors=2.0), 700, horizon=False)
    assert judged.verdicts["concept"] is Verdict.INSUFFICIENT_DATA
    found = {m.metric: m for m in judged.measurements}
    assert found["concept_drift_rmse"].reason == "immature"
    assert found["concept_drift_rmse"].value is not None
    keys = [(m.metric, m.subject, m.slice) for m in judged.measurements]
    assert len(keys) == len(set(keys))


def test_labels_of_few_rows_allow_no_verdict(bench: Bench) -> None:
    for labelled, reason in ((99, "few_rows"), (400, "label_coverage")):
        judged = bench.judge(rows(4, 1000), labelled)
        found = [m for m in judged.measurements if m.metric.startswith(CONCEPT_DRIFT)]
        assert {(m.reason, m.verdict) for m in found} == {(reason, Verdict.INSUFFICIENT_DATA)}
        assert len(found) == 2


def test_smaller_errors_are_a_harmless_change(bench: Bench) -> None:
    for found in bench.surprises(rows(5, 2000, errors=0.7)).values():
        assert (found.verdict, found.reason) == (Verdict.OK, "better_than_promised")


def test_the_loss_is_what_exceeds_the_expected_one(bench: Bench) -> None:
    """Doubled errors of the same rows exceed the expected ones by once the realised error more."""
    window = rows(6, 3000)
    predicted, label = window["prediction"].to_numpy(), window["label"].to_numpy()
    doubled = window.set_column(3, "label", pa.array(predicted + 2 * (label - predicted)))
    once, twice = bench.surprises(window), bench.surprises(doubled)
    ours, theirs = bench.reference["prediction"].to_numpy(), bench.reference["label"].to_numpy()
    for name in ("mae", "rmse"):
        power = 0.5 if name in ROOTS else 1.0
        one, two = once[name].value, twice[name].value
        assert one is not None
        assert two is not None
        realised = LOSSES[name](predicted, label).mean() ** power
        before = LOSSES[name](ours, theirs).mean() ** power
        assert two - one == pytest.approx(realised / before)


def test_weights_that_are_all_alike_change_nothing(bench: Bench) -> None:
    window = rows(7, 500, errors=1.1)
    heavy = window.append_column("weight", pa.array(np.full(500, 3.0)))
    one, other = bench.surprises(window), bench.surprises(heavy)
    assert [m.value for m in one.values()] == pytest.approx([m.value for m in other.values()])
    assert [m.p_value for m in one.values()] == pytest.approx([m.p_value for m in other.values()])


def test_what_has_no_expectation_says_why(bench: Bench) -> None:
    window = rows(8, 300)
    logs = bench.surprises(
        window.set_column(3, "label", pa.array(np.full(300, -5.0))),
        PerformancePolicy(metrics=("rmsle",)),
    )
    assert logs["rmsle"].reason == "negative_values"
    zeros = window["label"].to_numpy().copy()
    zeros[50:] = 0.0
    shares = bench.surprises(
        window.set_column(3, "label", pa.array(zeros)), PerformancePolicy(metrics=("mape",))
    )
    assert shares["mape"].reason == "few_rows"
    right = bench.reference.set_column(3, "label", bench.reference["prediction"])
    perfect = judge_loss_surprises(right, window, COLUMNS, POLICY)
    assert {m.reason for m in perfect} == {"reference_without_errors"}
    small = judge_loss_surprises(rows(0, 50), window, COLUMNS, POLICY)
    assert {m.reason for m in small} == {"reference_insufficient"}
