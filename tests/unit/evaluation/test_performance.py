import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import fisher_exact

from service.detection.calibrator import fit_calibrator
from service.detection.metrics import RECORDED, measure
from service.detection.performance import METRICS, measure_performance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.performance import (
    PerformancePolicy,
    judge_estimate,
    judge_performance,
)
from service.evaluation.significance import p_value_of_loss, sidak
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes
from service.profiles.freeze import freeze_binning
from service.profiles.profile import (
    REGRESSION_SUMS,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)

CAR_LOAN = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_car_loan"
CLASSES = Classes("0", "1")
BINNING = freeze_binning(pa.table({"score": np.linspace(0, 1, 101)}), [], CLASSES)
POLICY = PerformancePolicy()
JUDGED = sorted(set(METRICS) - RECORDED)


def some_rows(
    n: int, seed: int = 0, *, noise: float = 0.0, spread: float = 0.0, batch: int = 100
) -> pa.Table:
    """Draw rows of a calibrated model; ``noise`` flips that share of labels, ``spread`` shifts
    the flips between batches."""
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-rng.normal(0, 2.0, n)))
    shift = np.repeat(rng.normal(0, spread, n // batch + 1), batch)[:n]
    flip = rng.random(n) < np.clip(noise + np.abs(shift), 0, 1)
    label = (rng.random(n) < score) != flip
    return pa.table(
        {
            "label": np.where(label, "1", "0"),
            "prediction": np.where(score >= 0.5, "1", "0"),
            "score": score,
        }
    )


def judge(
    reference: pa.Table | None,
    current: pa.Table,
    policy: PerformancePolicy = POLICY,
    chunks: list[Performance] | None = None,
    rows: int | None = None,
) -> dict[str, Measurement]:
    before = None if reference is None else profile_performance(reference, BINNING)
    now = profile_performance(current, BINNING)
    count = current.num_rows if rows is None else rows
    edges = BINNING.score_edges
    found = judge_performance(before, chunks or [], now, count, policy, edges)
    return {m.metric: m for m in found}


def chunks_of(rows: pa.Table, size: int) -> list[Performance]:
    starts = range(0, rows.num_rows, size)
    return [profile_performance(rows.slice(start, size), BINNING) for start in starts]


def test_a_model_that_got_worse_alerts_and_one_that_did_not_is_ok() -> None:
    reference = some_rows(10_000)
    worse, same = (
        judge(reference, some_rows(3000, 1, noise=0.1)),
        judge(reference, some_rows(3000, 2)),
    )
    for name in POLICY.metrics:
        assert worse[name].verdict is Verdict.ALERT, name
        assert same[name].verdict is Verdict.OK, name


def test_a_better_model_never_alerts() -> None:
    better = judge(some_rows(10_000, noise=0.2), some_rows(3000, 1))
    assert {better[name].verdict for name in POLICY.metrics} == {Verdict.OK}


def test_metrics_that_the_policy_does_not_name_are_recorded_without_a_verdict() -> None:
    measured = judge(some_rows(2000), some_rows(2000, 1))
    assert set(measured) == {*METRICS, "label_coverage"}
    for name in set(METRICS) - set(POLICY.metrics):
        assert measured[name].verdict is None
        assert measured[name].value is not None
        assert measured[name].reference_value is not None


@pytest.mark.parametrize("name", JUDGED)
def test_any_metric_with_a_worse_side_may_be_judged(name: str) -> None:
    policy = PerformancePolicy(metrics=(name,))
    reference = some_rows(10_000)
    worse = judge(reference, some_rows(5000, 1, noise=0.15), policy)[name]
    assert worse.verdict is Verdict.ALERT
    assert worse.value is not None
    assert worse.threshold is not None
    higher = worse.direction is Direction.HIGHER_IS_WORSE
    assert (worse.value > worse.threshold) is higher


@pytest.mark.parametrize("name", [*sorted(RECORDED), "recal"])
def test_what_is_recorded_only_or_unknown_cannot_be_judged(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        PerformancePolicy(metrics=(name,))


def test_thresholds_are_the_baseline_and_the_tolerance() -> None:
    measured = judge(some_rows(2000), some_rows(2000, 1), PerformancePolicy(tolerance=0.02))
    for name, share, margin in (
        ("accuracy", 1.0, -0.02),
        ("false_positive_rate", 1.0, 0.02),
        ("brier_score", 1.02, 0.0),
    ):
        baseline = measured[name].reference_value
        assert baseline is not None
        assert measured[name].threshold == pytest.approx(baseline * share + margin)


def test_a_loss_within_the_tolerance_is_ok_however_certain() -> None:
    reference, current = some_rows(10_000), some_rows(10_000, 1, noise=0.1)
    policy = PerformancePolicy(tolerance=0.5)
    accuracy = judge(reference, current, policy)["accuracy"]
    assert accuracy.p_value is not None
    assert accuracy.p_value < 1e-6
    assert accuracy.verdict is Verdict.OK


def test_the_p_value_of_accuracy_is_fishers_adjusted_by_sidak() -> None:
    reference, current = some_rows(3000), some_rows(400, 1, noise=0.05)

    def table(rows: pa.Table) -> list[int]:
        right = int(np.sum(np.array(rows["label"]) == np.array(rows["prediction"])))
        return [right, rows.num_rows - right]

    exact = fisher_exact([table(current), table(reference)], alternative="less").pvalue
    accuracy = judge(reference, current)["accuracy"]
    assert accuracy.p_value == pytest.approx(1 - (1 - exact) ** 3)


def test_the_p_value_of_f1_is_fishers_of_the_hits_among_rows_of_either_kind() -> None:
    reference, current = some_rows(3000), some_rows(400, 1, noise=0.05)

    def table(rows: pa.Table) -> list[int]:
        label, predicted = (np.array(rows[name]) == "1" for name in ("label", "prediction"))
        hits = int(np.sum(label & predicted))
        return [hits, int(np.sum(label | predicted)) - hits]

    exact = fisher_exact([table(current), table(reference)], alternative="less").pvalue
    f1 = judge(reference, current, PerformancePolicy(metrics=("f1",)))["f1"]
    assert f1.p_value == pytest.approx(exact)


@pytest.mark.parametrize("name", ["f1", "matthews_corrcoef", "balanced_accuracy"])
def test_metrics_of_few_rows_keep_their_level(name: str) -> None:
    draw, alarms, runs = np.random.default_rng(3), 0, 2000
    empty = np.zeros((2, 2, 1), np.int64)
    for _ in range(runs):
        values = []
        for n in (5000, 100):
            table = draw.multinomial(n, [0.82, 0.03, 0.09, 0.06]).reshape(2, 2)
            weights, scores = table.astype(np.float64), empty.astype(np.float64)
            counted = PerformanceProfile(
                n, 0, table, weights, weights, empty, scores, np.zeros((2, 4))
            )
            values.append(measure_performance(counted, [name])[name])
        alarms += p_value_of_loss(name, values[1], values[0], []) < 0.01
    assert alarms <= 1.7 * 0.01 * runs


def test_a_reference_that_lacks_its_rare_large_errors_is_not_surer_for_it() -> None:
    draw, alarms, runs = np.random.default_rng(4), 0, 2000
    deviations = np.linspace(-4, 4, 61)
    errors = 100 * np.expm1(deviations / 2)
    shares = np.exp(-(deviations**2) / 2) / np.exp(-(deviations**2) / 2).sum()
    powers = {"abs_e": np.abs(errors), "e2": errors**2, "e4": errors**4}
    for _ in range(runs):
        values = []
        for n in (5_000, 1_000_000):
            counts = draw.multinomial(n, shares)
            sums = {name: float(counts @ power) for name, power in powers.items()}
            sums |= {"w": float(n), "ww": float(n)}
            made = np.array([sums.get(name, 0.0) for name in REGRESSION_SUMS])
            values.append(measure(RegressionProfile(n, 0, 0, 0, made), ["rmse"])["rmse", None])
        alarms += p_value_of_loss("rmse", values[1], values[0], []) < 0.01
    assert alarms <= 1.7 * 0.01 * runs


def test_sidak_keeps_tiny_probabilities() -> None:
    assert sidak(1e-300, 3) == pytest.approx(3e-300)
    assert sidak(1.0, 3) == 1.0


def test_weights_lessen_what_rows_can_prove() -> None:
    reference, current = some_rows(3000), some_rows(1000, 1, noise=0.06)
    weight = np.where(np.arange(1000) % 20 == 0, 100.0, 1.0)
    plain = judge(reference, current)["accuracy"]
    weighted = judge(reference, current.append_column("weight", pa.array(weight)))["accuracy"]
    assert weighted.n == 1000
    assert weighted.n_eff is not None
    assert weighted.n_eff < 100
    assert plain.p_value is not None
    assert weighted.p_value is not None
    assert weighted.p_value > plain.p_value


def test_rare_alarms_stay_rare_without_a_change() -> None:
    policy = PerformancePolicy(alpha=0.05, tolerance=0.0, metrics=JUDGED)
    alarms = 0
    for seed in range(150):
        measured = judge(some_rows(2000, 2 * seed), some_rows(300, 2 * seed + 1), policy)
        alarms += any(m.verdict is Verdict.ALERT for m in measured.values())
    assert alarms <= 150 * 0.05 + 3 * (150 * 0.05 * 0.95) ** 0.5


def test_a_reference_that_varies_by_itself_needs_a_larger_loss() -> None:
    reference = some_rows(20_000, 3, spread=0.1, batch=1000)
    current = some_rows(1000, 7, noise=0.1)
    alone = judge(reference, current)["accuracy"]
    varied = judge(reference, current, chunks=chunks_of(reference, 1000))["accuracy"]
    assert alone.p_value is not None
    assert varied.p_value is not None
    assert varied.p_value > alone.p_value


def test_chunks_that_agree_change_nothing() -> None:
    reference, current = some_rows(10_000, 3), some_rows(1000, 7, noise=0.1)
    alone = judge(reference, current)
    chunked = judge(reference, current, chunks=chunks_of(reference, 1000))
    assert [chunked[name].p_value for name in POLICY.metrics] == [
        alone[name].p_value for name in POLICY.metrics
    ]


def test_what_cannot_be_judged_says_why() -> None:
    good, single = some_rows(1000), some_rows(1000).set_column(
        0, "label", pa.array(["0"] * 1000)
    )  # fmt: skip
    cases = {
        "no_reference": judge(None, good),
        "few_rows": judge(good, good.slice(0, 99)),
        "label_coverage": judge(good, good, rows=2001),
        "reference_insufficient": judge(good.slice(0, 9), good),
    }
    for reason, measured in cases.items():
        assert measured["accuracy"].verdict is Verdict.INSUFFICIENT_DATA
        assert measured["accuracy"].reason == reason
        assert measured["accuracy"].value is not None
    for name in ("roc_auc", "recall"):
        measured = judge(good, single)
        assert measured[name].value is None
        assert measured[name].reason == "single_class"
        assert measured[name].verdict is Verdict.INSUFFICIENT_DATA


def test_few_rows_in_a_denominator_are_insufficient() -> None:
    rare = some_rows(500).set_column(0, "label", pa.array(["1"] * 9 + ["0"] * 491))
    measured = judge(some_rows(5000), rare)
    for name in ("recall", "roc_auc"):
        assert measured[name].verdict is Verdict.INSUFFICIENT_DATA
        assert measured[name].reason == "few_in_denominator"
    assert measured["accuracy"].verdict is Verdict.ALERT


def test_label_coverage_is_short_or_unjudged_but_never_ok() -> None:
    good = some_rows(1000)
    assert judge(good, good, rows=1999)["label_coverage"].verdict is None
    short = judge(good, good, rows=2001)["label_coverage"]
    assert (short.verdict, short.reason) == (Verdict.INSUFFICIENT_DATA, "label_coverage")
    none = judge(good, good.slice(0, 0))["label_coverage"]
    assert (none.value, none.reason) == (None, "no_rows")


NOTHING = pa.nulls(200, pa.string())


@pytest.mark.parametrize(
    "broken",
    [
        some_rows(200).set_column(2, "score", pa.array([float("nan")] * 200)),
        some_rows(200).set_column(1, "prediction", NOTHING),
        some_rows(200).set_column(0, "label", NOTHING),
        some_rows(200).set_column(1, "prediction", pa.array(["?"] * 200)),
        some_rows(200).set_column(1, "prediction", pa.array(["1"] * 200)),
        some_rows(200).set_column(0, "label", pa.array(["1"] * 200)),
        some_rows(200).set_column(2, "score", pa.array([0.0] * 200)),
        some_rows(200).append_column("weight", pa.array([0.0] * 200)),
        some_rows(200).append_column("weight", pa.array([1e308] * 200)),
        some_rows(0),
        some_rows(1),
    ],
)
def test_broken_windows_and_references_give_answers_not_exceptions(broken: pa.Table) -> None:
    policy = PerformancePolicy(metrics=JUDGED)
    good = some_rows(1000)
    for reference, current in ((good, broken), (broken, good), (broken, broken)):
        pieces = chunks_of(reference, 50)
        for measurement in judge(reference, current, policy, pieces).values():
            assert measurement.value is not None or measurement.reason
        calibrator = fit_calibrator(good["score"], np.array(good["label"]) == "1")
        before = profile_performance(reference, BINNING)
        for given in (calibrator, None):
            estimates = judge_estimate(
                before, given, profile_features(current, [], BINNING), BINNING, policy
            )
            assert len(estimates) == 5


def test_missing_scores_do_not_keep_accuracy_from_being_judged() -> None:
    current = some_rows(1000, 1).set_column(2, "score", pa.array([float("nan")] * 1000))
    measured = judge(some_rows(5000), current)
    assert measured["accuracy"].verdict is Verdict.OK
    assert (measured["roc_auc"].value, measured["roc_auc"].reason) == (None, "no_scores")


def test_what_is_never_judged_has_no_threshold() -> None:
    measured = judge(some_rows(5000), some_rows(1000, 1))
    assert measured["accuracy"].threshold is not None
    for name in ("label_rate", "expected_calibration_error"):
        assert measured[name].reference_value is not None
        assert measured[name].threshold is None


def test_an_estimate_alerts_when_scores_move_to_where_the_model_is_unsure() -> None:
    reference = some_rows(5000)
    calibrator = fit_calibrator(
        np.array(reference["score"]),
        np.array(reference["label"]) == "1",
        predicted=np.array(reference["prediction"]) == "1",
    )
    before = profile_performance(reference, BINNING)
    unsure = some_rows(2000, 1).filter(
        pa.array(np.abs(np.array(some_rows(2000, 1)["score"]) - 0.5) < 0.3)
    )
    for rows, verdict in ((unsure, Verdict.ALERT), (some_rows(2000, 1), Verdict.OK)):
        features = profile_features(rows, [], BINNING)
        measured = {
            m.metric: m for m in judge_estimate(before, calibrator, features, BINNING, POLICY)
        }
        assert set(measured) == {
            f"estimated_{name}" for name in ("roc_auc", "accuracy", "precision", "recall", "f1")
        }
        assert measured["estimated_accuracy"].verdict is verdict
        assert measured["estimated_roc_auc"].verdict is verdict
        assert measured["estimated_f1"].verdict is None


def test_an_estimate_without_a_calibrator_says_so() -> None:
    rows = some_rows(1000)
    before, features = profile_performance(rows, BINNING), profile_features(rows, [], BINNING)
    for measurement in judge_estimate(before, None, features, BINNING, POLICY):
        assert (measurement.value, measurement.reason) == (None, "no_calibrator")


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown metrics: accuracies"):
        PerformancePolicy(metrics=("accuracies",))


@pytest.mark.skipif(not CAR_LOAN.exists(), reason="the car loan data is not on this machine")
def test_car_loan_alerts_in_exactly_the_drifted_chunks() -> None:
    def read(name: str) -> pa.Table:
        rows = pq.read_table(CAR_LOAN / name)
        return pa.table(
            {
                "label": rows["repaid"].cast(pa.int64()).cast(pa.string()),
                "prediction": rows["y_pred"].cast(pa.string()),
                "score": rows["y_pred_proba"],
            }
        )

    expected = json.loads((CAR_LOAN / "expected.json").read_text())
    reference, analysis = read("reference.parquet"), read("analysis.parquet")
    binning = freeze_binning(reference, [], CLASSES)
    before = profile_performance(reference, binning)
    parts = [profile_performance(reference.slice(i, 5000), binning) for i in range(0, 50_000, 5000)]
    calibrator = fit_calibrator(
        np.array(reference["score"]),
        np.array(reference["label"]) == "1",
        predicted=np.array(reference["prediction"]) == "1",
    )
    for i, chunk in enumerate(expected["chunks"]):
        rows = analysis.slice(i * 5000, 5000)
        current = profile_performance(rows, binning)
        measured = {m.metric: m for m in judge_performance(before, parts, current, 5000, POLICY)}
        drifted = i in expected["must_alert_chunks"]
        for name in ("accuracy", "recall"):
            assert (measured[name].verdict is Verdict.ALERT) is drifted, (i, name)
        if i in expected["must_not_alert_chunks"]:
            assert {measured[name].verdict for name in POLICY.metrics} == {Verdict.OK}
        features = profile_features(rows, [], binning)
        estimated = {
            m.metric: m for m in judge_estimate(before, calibrator, features, binning, POLICY)
        }
        value = estimated["estimated_roc_auc"].value
        assert value == pytest.approx(chunk["published"]["cbpe_auc"], abs=5e-3)
        assert (estimated["estimated_accuracy"].verdict is Verdict.ALERT) is drifted
