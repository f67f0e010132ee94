"""What is left of the classes' errors in their mean, against jackknives of scikit-learn's sums."""

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from service.detection.multiclass import measure_multiclass
from service.detection.multiclass_joint import MOST_ROWS, JointScores, joint_scores
from service.profiles.build import profile_performance
from service.profiles.columns import Classes, ManyClasses
from service.profiles.freeze import freeze_binning
from service.profiles.profile import MulticlassProfile

NAMES = ("a", "b", "c")
RANKED = ("roc_auc", "average_precision")
OUTPUT = ManyClasses(NAMES)


def some_rows(n: int, *, seed: int = 0, weighted: bool = False) -> pa.Table:
    rng = np.random.default_rng(seed)
    label = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    evidence = rng.normal(size=(n, 3)) + 1.2 * np.eye(3)[label]
    scores = np.exp(1.2 * evidence) * [0.6, 0.3, 0.1]
    scores /= scores.sum(axis=1, keepdims=True)
    names = np.array(NAMES)
    columns: dict[str, Any] = {f"scores.{name}": scores[:, i] for i, name in enumerate(NAMES)}
    if weighted:
        columns["weight"] = rng.gamma(2.0, size=n)
    return pa.table({"label": names[label], "prediction": names[scores.argmax(axis=1)], **columns})


def the_joint(rows: pa.Table) -> JointScores:
    joint = joint_scores(rows, OUTPUT)
    assert joint is not None
    return joint


def left(rows: pa.Table, name: str, shares: Any = None) -> float:
    joint = the_joint(rows)
    own = np.bincount(joint.labels, joint.weights, 3) if shares is None else shares
    found = joint.error_left(name, np.asarray(own, dtype=np.float64))
    assert found is not None
    return found


def of_classes(rows: pa.Table, kept: Any, weights: Any) -> list[list[float]]:
    """Return both metrics of each class by scikit-learn."""
    label = np.array(rows["label"].to_pylist())
    by_metric = (metrics.roc_auc_score, metrics.average_precision_score)
    return [
        [
            score(label[kept] == name, rows[f"scores.{name}"].to_numpy()[kept],
                  sample_weight=weights[kept])
            for name in NAMES
        ]
        for score in by_metric
    ]  # fmt: skip


N = 250


@cache
def jackknife(*, weighted: bool) -> dict[str, Any]:
    """Return each metric of each class without each row in turn, ``(n, k)``."""
    rows = some_rows(N, weighted=weighted)
    weights = rows["weight"].to_numpy() if weighted else np.ones(N)
    without = np.array([of_classes(rows, np.arange(N) != i, weights) for i in range(N)])
    return dict(zip(RANKED, without.transpose(1, 0, 2), strict=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_left_is_what_a_jackknife_of_the_rows_says(*, weighted: bool) -> None:
    rows = some_rows(N, weighted=weighted)
    for name, values in jackknife(weighted=weighted).items():
        expected = values.mean(axis=1).std() / values.std(axis=0).mean()
        assert expected < 0.95
        assert left(rows, name) == pytest.approx(expected, rel=0.03), name


@pytest.mark.parametrize("name", RANKED)
def test_the_interval_of_the_mean_is_the_jackknife_s(name: str) -> None:
    rows = some_rows(N)
    binning = freeze_binning(rows, [], OUTPUT)
    profile = profile_performance(rows, binning)
    assert isinstance(profile, MulticlassProfile)
    expected = jackknife(weighted=False)[name].mean(axis=1).std() * np.sqrt(N - 1)
    for joint in (the_joint(rows), None):
        value = measure_multiclass(profile, [name], binning.score_edges, joint)[name, None]
        assert value.value is not None
        error = value.error * value.value * (1 - value.value)
        if joint is None:
            assert error > 1.2 * expected
            assert value.method.endswith("_bound")
        else:
            assert error == pytest.approx(expected, rel=0.05)
            assert not value.method.endswith("_bound")


@pytest.mark.parametrize("name", RANKED)
def test_repeating_the_rows_of_a_class_is_asking_for_more_of_it(name: str) -> None:
    rows = some_rows(400)
    times = {"a": 1, "b": 2, "c": 7}
    repeated = np.repeat(np.arange(400), [times[label] for label in rows["label"].to_pylist()])
    more = rows.take(pa.array(repeated))
    shares = np.bincount(the_joint(more).labels)
    assert left(rows, name, shares) == pytest.approx(left(more, name), rel=1e-9)
    assert left(rows, name, 1e9 * shares) == pytest.approx(left(more, name), rel=1e-9)


@pytest.mark.parametrize("name", RANKED)
def test_two_classes_whose_scores_add_up_to_one_err_together(name: str) -> None:
    rows = some_rows(300)
    own = rows.filter(pa.array([label != "c" for label in rows["label"].to_pylist()]))
    score = own["scores.a"].to_numpy()
    two = pa.table({"label": own["label"], "scores.a": score, "scores.b": 1 - score})
    joint = joint_scores(two, ManyClasses(("a", "b")))
    assert joint is not None
    found = joint.error_left(name, np.ones(2))
    assert found == pytest.approx(1.0) if name == "roc_auc" else found is not None


SCORE = st.sampled_from([0.1, 0.3, 0.5])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), SCORE, SCORE, SCORE), min_size=1, max_size=9),
    st.lists(st.sampled_from([1e-90, 1.0, 1e90]), min_size=3, max_size=3),
    st.sampled_from(RANKED),
)
def test_whatever_the_rows_it_is_a_share_or_nothing(
    rows: Any, shares: list[float], name: str
) -> None:
    columns = [pa.array([row[i] for row in rows] * 10) for i in range(4)]
    table = pa.table(columns, names=["label", *(f"scores.{n}" for n in NAMES)])
    found = the_joint(table).error_left(name, np.array(shares))
    assert found is None or 0 <= found <= 1
    if {row[0] for row in rows} != set(NAMES):
        assert found is None


def test_few_rows_of_a_class_say_nothing() -> None:
    rows = some_rows(300)
    rare = [i for i, label in enumerate(rows["label"].to_pylist()) if label == "c"]
    few = rows.take(pa.array(sorted({*range(300)} - {*rare[9:]})))
    assert the_joint(few).error_left("roc_auc", np.ones(3)) is None
    enough = rows.take(pa.array(sorted({*range(300)} - {*rare[10:]})))
    assert the_joint(enough).error_left("roc_auc", np.ones(3)) is not None


def test_many_rows_are_chosen_alike_and_rare_classes_kept() -> None:
    rows = some_rows(60_000)
    first, second = the_joint(rows), the_joint(rows)
    assert np.array_equal(first.ranks, second.ranks)
    assert MOST_ROWS <= len(first.labels) <= MOST_ROWS + 3
    kept = np.bincount(first.labels) / len(first.labels)
    assert kept[2] > 0.15
    all_alike = left(some_rows(4_000), "roc_auc", [0.6, 0.3, 0.1])
    assert left(rows, "roc_auc", [0.6, 0.3, 0.1]) == pytest.approx(all_alike, rel=0.05)


def test_another_task_or_no_label_has_none() -> None:
    rows = some_rows(20)
    assert joint_scores(rows, Classes("a", "b")) is None
    unlabelled = rows.set_column(0, "label", pa.nulls(20, pa.string()))
    assert joint_scores(unlabelled, OUTPUT) is None
    assert joint_scores(rows.drop_columns(["scores.c"]), OUTPUT) is None
