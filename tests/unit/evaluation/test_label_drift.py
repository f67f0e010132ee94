"""Label drift: the shares of the classes, once enough rows have a label."""

import numpy as np
import pyarrow as pa
import pytest

from service.detection.methods import METHODS
from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import ColumnDriftPolicy, DriftPolicy
from service.evaluation.label_drift import judge_label_drift, label_share
from service.evaluation.measurement import Measurement, Verdict
from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, Column, Kind, ManyClasses, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import Performance, PerformanceProfile

COLUMNS = [Column("x", Kind.NUMERIC)]


def a_window(negative: int, positive: int, *, unlabelled: int = 0, seed: int = 1) -> pa.Table:
    labels = ["0"] * negative + ["1"] * positive + [None] * unlabelled
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "x": rng.normal(size=len(labels)),
            "label": pa.array(labels, pa.string()),
            "prediction": ["0", *["1"] * (len(labels) - 1)],
        }
    )


def labelled(rows: pa.Table) -> tuple[Binning, Performance]:
    binning = freeze_binning(rows, COLUMNS, Classes("0", "1"))
    return binning, profile_performance(rows, binning)


def judge_labels(
    old: pa.Table, new: pa.Table, policy: DriftPolicy | None = None, *, chunks: int = 0
) -> list[Measurement]:
    binning, reference = labelled(old)
    size = old.num_rows // max(chunks, 1)
    pieces = [profile_performance(old.slice(i * size, size), binning) for i in range(chunks)]
    now = profile_performance(new, binning)
    asked = policy or DriftPolicy()
    return judge_label_drift(binning, reference, pieces, now, new.num_rows, asked, 0.5)


def test_the_label_has_drifted_when_its_shares_have() -> None:
    [found] = judge_labels(a_window(3000, 2000), a_window(400, 600))
    assert (found.metric, found.subject, found.verdict) == ("drift", "label", Verdict.ALERT)
    assert (found.n, found.n_reference) == (1000, 5000)
    assert found.p_value is not None
    assert found.p_value < 1e-20
    [found] = judge_labels(a_window(3000, 2000), a_window(600, 400))
    assert (found.value, found.verdict) == (0.0, Verdict.OK)


def test_a_rare_class_that_triples_is_named() -> None:
    [found] = judge_labels(a_window(4950, 50), a_window(969, 31))
    assert found.verdict is Verdict.ALERT
    assert found.reason is not None
    assert found.reason.endswith("rare category 1: 1.0 % -> 3.1 %")


def test_a_share_that_varies_in_the_reference_has_not_drifted() -> None:
    shares = (0.3, 0.5, 0.4, 0.55, 0.25, 0.45, 0.35, 0.5, 0.3, 0.4)
    old = pa.concat_tables([a_window(round(500 * (1 - p)), round(500 * p)) for p in shares])
    new, policy = a_window(250, 250), DriftPolicy(min_effect=0.0)
    assert judge_labels(old, new, policy)[0].verdict is Verdict.ALERT
    assert judge_labels(old, new, policy, chunks=10)[0].verdict is Verdict.OK


def test_without_enough_labels_there_is_no_verdict_whatever_they_say() -> None:
    old = a_window(3000, 2000)
    [few] = judge_labels(old, a_window(0, 99))
    assert few.verdict is Verdict.INSUFFICIENT_DATA
    assert few.reason == "99 rows have a value, fewer than 100"
    [part] = judge_labels(old, a_window(0, 400, unlabelled=600))
    assert part.verdict is Verdict.INSUFFICIENT_DATA
    assert part.reason == "40 % of the rows have a label, fewer than 50 %"
    assert part.threshold is part.p_value is part.detectable_effect is None
    [none] = judge_labels(old, a_window(0, 0, unlabelled=600))
    assert (none.value, none.verdict) == (None, Verdict.INSUFFICIENT_DATA)
    [empty] = judge_labels(old, a_window(1, 0).slice(0, 0))
    assert (empty.value, empty.verdict) == (None, Verdict.INSUFFICIENT_DATA)


def test_a_reference_without_labels_or_an_ignored_label_is_not_measured() -> None:
    new = a_window(400, 600)
    assert judge_labels(a_window(0, 0, unlabelled=600), new) == []
    ignored = DriftPolicy(columns={"label": ColumnDriftPolicy(ignore=True)})
    assert judge_labels(a_window(300, 300), new, ignored) == []
    binning, reference = labelled(a_window(300, 300))
    assert label_share(binning, reference, ignored) == 0
    # The one feature and the prediction are the others.
    assert label_share(binning, reference, DriftPolicy()) == pytest.approx(1 / 3)


@pytest.mark.parametrize("method", METHODS)
def test_any_method_measures_the_label(method: str) -> None:
    policy = DriftPolicy(method=method)
    [found] = judge_labels(a_window(3000, 2000), a_window(400, 600), policy)
    assert found.method == ("total_variation" if METHODS[method].ordered else method)
    assert found.verdict is Verdict.ALERT


def test_the_share_of_alpha_moves_the_level_and_the_p_value_alike() -> None:
    old, new = a_window(3000, 2000), a_window(400, 600, seed=2)
    binning, _ = labelled(old)
    a, b = (profile_features(rows, COLUMNS, binning) for rows in (old, new))
    whole, part = (
        judge_drift(binning, a, [], b, DriftPolicy(), share)[0].p_value for share in (1.0, 0.5)
    )
    assert whole is not None
    assert part == pytest.approx(min(2 * whole, 1.0))


def test_undrifted_labels_rarely_alert() -> None:
    rng = np.random.default_rng(3)
    binning, profile = labelled(a_window(1, 1))
    policy = DriftPolicy(min_effect=0.0)

    assert isinstance(profile, PerformanceProfile)

    def drawn(rows: int, share: float) -> PerformanceProfile:
        positive = int(rng.binomial(rows, share))
        confusion = np.array([[rows - positive, 0], [0, positive]])
        return PerformanceProfile(
            rows, 0, confusion, profile.confusion_weights, profile.confusion_weights_squared,
            profile.score_counts, profile.score_weights, profile.losses,
        )  # fmt: skip

    for share in (0.01, 0.1, 0.5):
        alerts = 0
        for _ in range(1500):
            n = int(rng.choice([100, 300, 1000, 10_000]))
            old, new = drawn(5000, share), drawn(n, share)
            [found] = judge_label_drift(binning, old, [], new, n, policy, 0.5)
            alerts += found.verdict is Verdict.ALERT
        # A third of 1 %, the part of one column among three: 5 expected; over 14 is 1 in 4,000.
        assert alerts <= 14


def test_the_labels_of_many_classes_have_a_drift_too() -> None:
    names = ("bird", "cat", "dog")
    old = pa.table({"label": [*names] * 500, "prediction": [*names] * 500})
    new = pa.table({"label": ["bird", "bird", "cat", "dog"] * 250, "prediction": ["cat"] * 1000})
    binning = freeze_binning(old, [], ManyClasses(names))
    before, after = (profile_performance(rows, binning) for rows in (old, new))
    [found] = judge_label_drift(binning, before, [], after, 1000, DriftPolicy(), 0.5)
    assert (found.n, found.n_reference, found.verdict) == (1000, 1500, Verdict.ALERT)


def test_labels_that_are_numbers_are_left_alone() -> None:
    rows = pa.table({"label": [1.0, 2.0] * 200, "prediction": [1.5] * 400})
    binning = freeze_binning(rows, [], Quantity())
    profile = profile_performance(rows, binning)
    assert judge_label_drift(binning, profile, [], profile, 400, DriftPolicy(), 0.5) == []


def test_a_class_that_nearly_doubles_matters() -> None:
    [found] = judge_labels(a_window(9477, 523), a_window(9096, 904))
    assert found.verdict is Verdict.ALERT
