"""Profiles of models that are not binary: the laws of merging, and sums by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.detection.multiclass import measure_multiclass
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.frames import pack
from service.profiles.freeze import freeze_binning
from service.profiles.merge import (
    empty_features,
    empty_performance,
    merge_features,
    merge_performance,
)
from service.profiles.profile import (
    REGRESSION_SUMS,
    MulticlassProfile,
    PerformanceProfile,
    RegressionProfile,
)
from service.profiles.serialise import (
    binning_from_bytes,
    binning_to_bytes,
    features_from_bytes,
    features_to_bytes,
    performance_from_bytes,
    performance_to_bytes,
)

NUMBERS = pa.schema(
    [("prediction", pa.float64()), ("label", pa.float64()), ("weight", pa.float64())]
)
MANY = ManyClasses(("b", "a", "c"))
CLASSES = pa.schema(
    [
        *((name, pa.string()) for name in ("prediction", "label")),
        *((f"scores.{name}", pa.float64()) for name in MANY.names),
        ("weight", pa.float64()),
    ]
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


number = maybe(st.one_of(st.floats(-10, 10), st.sampled_from([0.0, -1.0, np.nan, np.inf])))
weight = maybe(st.floats(0, 100))
label = maybe(st.sampled_from(["a", "b", "c", "?"]))
NUMBER_ROWS = st.fixed_dictionaries({"prediction": number, "label": number, "weight": weight})
CLASS_ROWS = st.fixed_dictionaries(
    {
        "prediction": label,
        "label": label,
        "weight": weight,
        **{f"scores.{name}": maybe(st.floats(0, 1)) for name in MANY.names},
    }
)


def some(rows: st.SearchStrategy[Any], schema: pa.Schema) -> st.SearchStrategy[pa.Table]:
    return st.lists(rows, max_size=10).map(lambda drawn: pa.Table.from_pylist(drawn, schema))


cases = st.one_of(
    st.tuples(st.just(Quantity()), *[some(NUMBER_ROWS, NUMBERS)] * 4),
    st.tuples(st.just(MANY), *[some(CLASS_ROWS, CLASSES)] * 4),
)


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    for name in left.__dataclass_fields__:
        one, other = getattr(left, name), getattr(right, name)
        if isinstance(one, np.ndarray):
            # A relative error may be as large as the smallest label is small.
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=name)
        else:
            assert one == other, name


@settings(max_examples=60, deadline=None)
@given(cases)
def test_profiles_merge_in_any_order_and_survive_serialisation(case: Any) -> None:
    output, reference, *parts = case
    binning = freeze_binning(reference, [], output)
    again = binning_from_bytes(binning_to_bytes(binning))
    assert again.output == output
    a, b, c = (profile_performance(part, binning) for part in parts)
    whole = profile_performance(pa.concat_tables(parts), again)
    assert_same(merge_performance([merge_performance([a, b]), c]), whole)
    assert_same(merge_performance([c, merge_performance([b, a])]), whole)
    assert_same(merge_performance([a, empty_performance(binning)]), a)
    assert_same(performance_from_bytes(performance_to_bytes(whole)), whole)
    features = [profile_features(part, [], binning) for part in parts]
    merged = merge_features([empty_features(binning), *features])
    assert features_from_bytes(features_to_bytes(merged)).rows == merged.rows
    prediction = merged.columns["prediction"]
    assert prediction.n + prediction.missing == merged.rows


@pytest.mark.parametrize("output", [Quantity(), MANY, ManyClasses(())])
def test_the_profile_of_no_rows_can_be_stored(output: Output) -> None:
    binning = freeze_binning(pa.table({}), [], output)
    empty = empty_performance(binning)
    assert_same(performance_from_bytes(performance_to_bytes(empty)), empty)
    assert_same(merge_performance([empty, profile_performance(pa.table({}), binning)]), empty)


def test_sums_of_a_regression_by_hand() -> None:
    rows = pa.table(
        {
            "prediction": [3.0, 1.0, None, -2.0],
            "label": [1.0, 0.0, 4.0, 1.0],
            "weight": [1.0, 2.0, 1.0, 1.0],
        }
    )
    binning = freeze_binning(pa.table({"prediction": [1.0, 1.0]}), [], Quantity())
    profile = profile_performance(rows, binning)
    assert isinstance(profile, RegressionProfile)
    assert (profile.labelled, profile.unusable) == (3, 1)
    assert (profile.zero_labels, profile.outside_log) == (1, 1)
    sums = dict(zip(REGRESSION_SUMS, profile.sums.tolist(), strict=True))
    assert (sums["w"], sums["ww"]) == (4.0, 6.0)
    assert (sums["e"], sums["abs_e"], sums["e2"]) == (1.0, 7.0, 15.0)
    # The centre is the middle of the reference's predictions: 1.
    assert (sums["u"], sums["u2"]) == (-2.0, 2.0)
    assert (sums["relative_w"], sums["r"]) == (2.0, 5.0)
    assert sums["l2"] == pytest.approx(3 * np.log(2) ** 2)


def test_numbers_that_overflow_do_not_raise() -> None:
    rows = pa.table({"prediction": [1e300, -1e300], "label": [-1e300, 5e-324], "weight": [9e99, 1]})
    binning = freeze_binning(rows, [], Quantity())
    parts = [profile_performance(rows.slice(i, 1), binning) for i in range(2)]
    assert merge_performance(parts).labelled == 2


def test_counts_of_many_classes_by_hand() -> None:
    rows = pa.table(
        {
            "prediction": ["a", "b", "c", "a"],
            "label": ["a", "c", "c", "?"],
            "scores.a": [0.7, 0.1, 0.1, 0.8],
            "scores.b": [0.2, 0.6, None, 0.1],
            "scores.c": [0.1, 0.3, 0.9, 0.1],
        }
    )
    binning = freeze_binning(rows, [], MANY)
    profile = profile_performance(rows, binning)
    assert isinstance(profile, MulticlassProfile)
    assert (profile.labelled, profile.unusable) == (3, 1)
    assert profile.confusion.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert profile.label_score_counts.sum(axis=2).tolist() == [[2, 0], [1, 1], [1, 1]]
    # By class: whether the label is another one or this, then whether the prediction is.
    assert profile.score_counts.sum(axis=3).tolist() == [
        [[1, 1], [0, 0]],
        [[1, 0], [0, 1]],
        [[1, 0], [1, 0]],
    ]
    predicted = profile_features(rows, [], binning).score_counts
    assert predicted.sum(axis=2).tolist() == [[2, 1], [1, 2], [3, 0]]
    assert profile.losses[:, 0] == pytest.approx([0, -np.log(0.7), -np.log(0.3)])
    of_rows = [0, 0.09 + 0.04 + 0.01, 0.01 + 0.36 + 0.49]
    assert profile.losses[:, 2] == pytest.approx(of_rows)
    assert profile.losses[:, 3] == pytest.approx(np.square(of_rows))


def first_release(profile: PerformanceProfile | MulticlassProfile) -> bytes:
    """Return the frame that the first release wrote, whose scores are by label alone."""
    head: dict[str, Any] = {"labelled": profile.labelled, "unusable": profile.unusable}
    kind, losses = b"P", profile.losses
    if isinstance(profile, MulticlassProfile):
        kind, bins, losses = b"M", profile.score_counts.shape[-1], losses[:, :2]
        head |= {"names": profile.names, "bins": bins}
    arrays = (
        profile.confusion,
        profile.confusion_weights,
        profile.confusion_weights_squared,
        profile.label_score_counts,
        profile.label_score_weights,
        losses,
    )
    return pack(kind, head, [array.ravel() for array in arrays])


@pytest.mark.parametrize("output", [Classes("0", "1"), MANY])
def test_a_frame_of_the_first_release_is_parted_by_the_threshold_that_predicted(
    output: Output,
) -> None:
    draw = np.random.default_rng(0)
    assert not isinstance(output, Quantity)
    names, n = np.array(output.names), 400
    scores = draw.dirichlet(np.ones(len(names)), n)
    columns = {"label": names[draw.integers(0, len(names), n)], "weight": np.full(n, 2.0)}
    if isinstance(output, Classes):
        columns |= {"score": scores[:, 1], "prediction": names[(scores[:, 1] > 0.5).astype(int)]}
    else:
        columns |= {f"scores.{name}": scores[:, i] for i, name in enumerate(names)}
        columns["prediction"] = names[scores.argmax(axis=1)]
    rows = pa.table(columns)
    binning = freeze_binning(rows, [], output)
    profile: Any = profile_performance(rows, binning)
    read: Any = performance_from_bytes(first_release(profile))
    assert read.score_counts.shape == profile.score_counts.shape
    np.testing.assert_array_equal(read.label_score_counts, profile.label_score_counts)
    np.testing.assert_allclose(read.label_score_weights, profile.label_score_weights)
    # As many are predicted of each label; of two classes, even in the same bins.
    np.testing.assert_array_equal(read.score_counts.sum(axis=-1), profile.score_counts.sum(axis=-1))
    if isinstance(output, Classes):
        assert_same(read, replace(profile, ranked=None))
    else:
        np.testing.assert_array_equal(read.losses[:, :2], profile.losses[:, :2])
        brier = measure_multiclass(read, ["brier_score"])["brier_score", None]
        assert (brier.value, brier.reason) == (None, "not_finite")


def test_profiles_of_different_outputs_do_not_merge() -> None:
    outputs = (Quantity(), MANY, ManyClasses(("a", "b", "c")), Classes("0", "1"))
    empties = [empty_performance(freeze_binning(pa.table({}), [], output)) for output in outputs]
    for other in empties[1:]:
        with pytest.raises(ValueError, match="cannot be merged"):
            merge_performance([empties[0], other])
    with pytest.raises(ValueError, match="cannot be merged"):
        merge_performance(empties[1:3])
