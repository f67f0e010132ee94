"""Metrics of many classes against scikit-learn, a published table, and by simulation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from service.detection.multiclass import MULTICLASS_METRICS, measure_multiclass
from service.detection.multiclass_joint import joint_scores
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.performance import PerformancePolicy, judge_performance
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import ManyClasses
from service.profiles.freeze import freeze_binning
from service.profiles.profile import MulticlassProfile

CREDIT_CARD = Path(__file__).resolve().parents[4] / "shared" / "data" / "nannyml_credit_card"
CHUNK = 6000
NAMES = ("a", "b", "c")


def some_rows(n: int, *, weighted: bool = False, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet((1.0, 0.7, 0.4), n)
    draws = rng.random((n, 1))
    label = (scores.cumsum(axis=1) < draws).sum(axis=1).clip(0, 2)
    weight = rng.gamma(2.0, size=n) if weighted else np.ones(n)
    return {"label": label, "prediction": scores.argmax(axis=1), "scores": scores, "weight": weight}


def to_table(rows: dict[str, Any]) -> pa.Table:
    names = np.array(NAMES)
    return pa.table(
        {
            "label": names[rows["label"]],
            "prediction": names[rows["prediction"]],
            "weight": rows["weight"],
            **{f"scores.{name}": rows["scores"][:, i] for i, name in enumerate(NAMES)},
        }
    )


def to_profile(
    table: pa.Table, binning: Binning | None = None, names: tuple[str, ...] = NAMES
) -> MulticlassProfile:
    profile = profile_performance(table, binning or freeze_binning(table, [], ManyClasses(names)))
    assert isinstance(profile, MulticlassProfile)
    return profile


def by_sklearn(rows: dict[str, Any]) -> dict[tuple[str, str | None], float]:
    label, predicted, scores = rows["label"], rows["prediction"], rows["scores"]
    given = {"sample_weight": rows["weight"]}
    found: dict[tuple[str, str | None], float] = {
        ("accuracy", None): metrics.accuracy_score(label, predicted, **given),
        ("balanced_accuracy", None): metrics.balanced_accuracy_score(label, predicted, **given),
        ("log_loss", None): metrics.log_loss(label, scores, **given),
        ("roc_auc", None): metrics.roc_auc_score(label, scores, multi_class="ovr", **given),
        ("brier_score", None): metrics.brier_score_loss(label, scores, **given),
        ("matthews_corrcoef", None): metrics.matthews_corrcoef(label, predicted, **given),
    }
    for name, score in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        found[name, None] = score(label, predicted, average="macro", **given)
        each = score(label, predicted, average=None, **given)
        found |= {(name, NAMES[i]): each[i] for i in range(3)}
    for i in range(3):
        own = label == i
        found["roc_auc", NAMES[i]] = metrics.roc_auc_score(own, scores[:, i], **given)
        precision = metrics.average_precision_score(own, scores[:, i], **given)
        found["average_precision", NAMES[i]] = precision
        found["label_rate", NAMES[i]] = np.average(own, weights=rows["weight"])
    each = [found["average_precision", name] for name in NAMES]
    found["average_precision", None] = float(np.mean(each))
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [60, 5000])
def test_every_metric_agrees_with_scikit_learn(n: int, weighted: bool) -> None:
    rows = some_rows(n, weighted=weighted, seed=n)
    table = to_table(rows)
    binning = freeze_binning(table, [], ManyClasses(NAMES))
    measured = measure_multiclass(to_profile(table, binning), None, binning.score_edges)
    expected = by_sklearn(rows)
    assert {name for name, _ in expected} == set(MULTICLASS_METRICS), "a metric without an oracle"
    assert set(expected) == set(measured)
    for key, value in measured.items():
        # Bins shared by all classes hide the order of a few of a class's rows each.
        tolerance = {"roc_auc": 1e-4, "average_precision": 5e-4}.get(key[0], 1e-9)
        assert value.value == pytest.approx(expected[key], rel=0, abs=tolerance), key


label = st.sampled_from(["a", "b", "c", "?"])
score = st.one_of(st.none(), st.floats(0, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(label, label, score, score, score), max_size=8))
def test_whatever_the_rows_every_value_is_finite_or_has_a_reason(rows: Any) -> None:
    names = ["label", "prediction", *(f"scores.{name}" for name in NAMES)]
    columns = [pa.array([row[i] for row in rows]) for i in range(5)]
    for key, value in measure_multiclass(to_profile(pa.table(columns, names=names))).items():
        assert (value.value is None) == (value.reason is not None), key
        if value.value is not None:
            assert value.ci_low is not None
            assert value.ci_high is not None
            assert np.isfinite([value.value, value.ci_low, value.ci_high, value.error]).all()
            assert value.ci_low - 1e-9 <= value.value <= value.ci_high + 1e-9, key


def test_the_mean_over_classes_needs_them_all() -> None:
    rows = to_table(some_rows(200))
    two = rows.filter(pa.array([name != "c" for name in rows["label"].to_pylist()]))
    measured = measure_multiclass(to_profile(two))
    for name in ("recall", "f1", "roc_auc", "balanced_accuracy"):
        assert measured[name, None].reason == "missing_class"
    assert measured["recall", "a"].value is not None
    assert measured["recall", "c"].reason == "missing_class"
    empty = measure_multiclass(to_profile(rows.slice(0, 0)))
    assert {value.reason for value in empty.values()} == {"no_rows"}
    nothing = measure_multiclass(to_profile(pa.table({}), names=()))
    assert {value.reason for value in nothing.values()} == {"no_rows"}


@pytest.fixture(scope="module")
def credit_cards() -> tuple[Any, ...]:
    if not CREDIT_CARD.is_dir():
        pytest.skip("the data set nannyml_credit_card is not beside the project")
    renames = {"y_true": "label", "y_pred": "prediction"}
    tables = []
    for name in ("reference", "analysis"):
        table = pq.read_table(CREDIT_CARD / f"{name}.parquet")
        kept = [n for n in table.column_names if n.startswith("y_")]
        names = [renames.get(n, n.replace("y_pred_proba_", "scores.")) for n in kept]
        tables.append(table.select(kept).rename_columns(names))
    classes = tuple(sorted(set(tables[0]["label"].to_pylist())))
    binning = freeze_binning(tables[0], [], ManyClasses(classes))
    parts = [
        [to_profile(table.slice(i * CHUNK, CHUNK), binning) for i in range(10)] for table in tables
    ]
    joint = joint_scores(tables[0], binning.output)
    return to_profile(tables[0], binning), parts[0], parts[1], joint


def test_nannyml_credit_card_has_its_published_figures_and_alerts(credit_cards: Any) -> None:
    reference, chunks, windows, joint = credit_cards
    document = json.loads((CREDIT_CARD / "expected.json").read_text())
    policy = PerformancePolicy(metrics=("roc_auc", "accuracy", "f1"))
    alerting = []
    for i, (window, chunk) in enumerate(zip(windows, document["chunks"], strict=True)):
        measured = measure_multiclass(window)
        for name, published, tolerance in (
            ("roc_auc", "roc_auc_macro_ovr", 1e-4),
            ("f1", "f1_macro", 1e-6),
            ("accuracy", "accuracy", 1e-6),
        ):
            value = measured[name, None].value
            assert value == pytest.approx(chunk[published], rel=0, abs=tolerance), (i, name)
        found = judge_performance(reference, chunks, window, CHUNK, policy, joint=joint)
        if any(m.verdict is Verdict.ALERT for m in found):
            alerting.append(i)
            assert {m.metric for m in alerts(found) if m.subject is None} == set(policy.metrics)
    assert alerting == document["must_alert"]


def alerts(found: list[Measurement]) -> list[Measurement]:
    return [m for m in found if m.verdict is Verdict.ALERT]
