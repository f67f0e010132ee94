"""What the exporter makes of measurements of models that are not binary."""

from dataclasses import replace

import pytest

from service.evaluation.measurement import Direction, Measurement, Verdict
from service.exporter.groups import class_samples, slice_samples
from service.exporter.measured import feature_samples, model_samples, share_samples
from service.registry.slicing import SliceDocument, declaration_of

OWN = ("cards", "1")


def measured(metric: str, subject: str | None, value: float, reference: float) -> Measurement:
    return Measurement(
        metric=metric,
        subject=subject,
        value=value,
        n=100,
        method="jensen_shannon",
        direction=Direction.HIGHER_IS_WORSE,
        verdict=Verdict.OK,
        reference_value=reference,
    )


def test_the_score_of_a_class_is_an_output_and_no_feature() -> None:
    found = [measured("drift", "scores.a", 0.2, 0.0), measured("drift", "limit", 0.1, 0.0)]
    assert {name for name, _ in feature_samples(OWN, found)} == {"limit"}
    samples = {(s.name, s.label_values): s.value for s in model_samples(OWN, "data", found, 0.01)}
    drift = ("modelwatch_drift_score", (*OWN, "scores.a", "jensen_shannon"))
    assert samples[drift] == 0.2
    assert samples["modelwatch_features_monitored", OWN] == 1


def test_the_tolerance_of_an_error_is_exported_in_its_unit() -> None:
    found = [measured("rmse", None, 12.0, 10.0), measured("r2", None, 0.8, 0.9)]
    samples = {
        (s.name, s.label_values[-1]): s.value
        for s in model_samples(("prices", "1"), "performance", found, 0.01)
    }
    assert samples["modelwatch_performance_error", "rmse"] == 12.0
    assert samples["modelwatch_performance_tolerance_error", "rmse"] == 0.1
    assert samples["modelwatch_performance_tolerance_error", "r2"] == 0.01


DECLARED = [
    SliceDocument.model_validate(document)
    for document in (
        {"column": "region"},
        {"column": ["region", "tags.channel"]},
        {
            "name": "big",
            "where": "amount > 5",
            "critical": True,
            "metric": "recall",
            "floor": 0.9,
        },
        {"name": "old", "where": "age > 9", "critical": True, "metric": "rmse", "ceiling": 15},
    )
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("region=north", 0),
        ("region=a = b & c", 0),
        ("region=north & tags.channel=web", 1),
        ("big", 2),
        ("region", None),
        ("tags.channel=web", None),
        ("region2=north", None),
    ],
)
def test_a_slice_is_known_by_what_declares_it(name: str, expected: int | None) -> None:
    assert declaration_of(name, DECLARED) == (None if expected is None else DECLARED[expected])


def test_declared_slices_are_exported_with_their_limits_and_no_others() -> None:
    found = [
        replace(measured(metric, None, value, 0.9), slice=name, ci_low=0.1, ci_high=0.9)
        for metric, name, value in [
            ("accuracy", "region=north", 0.8),
            ("recall", "big", 0.7),
            ("rmse", "old", 16.0),
            ("accuracy", "sex=f", 0.5),
        ]
    ]
    # One metric may be of fewer rows than another.
    found.append(replace(found[1], metric="precision", n=60))
    found.append(
        replace(measured("accuracy", None, 0, 0), slice="region=s", value=None, n=7, reason="few")
    )
    samples = {(s.name, s.label_values[2:]): s.value for s in slice_samples(OWN, found, DECLARED)}
    prefix = "modelwatch_slice"
    assert samples[f"{prefix}_performance_ratio", ("region=north", "accuracy", "false")] == 0.8
    assert samples[f"{prefix}_performance_ci_upper_ratio", ("big", "recall", "true")] == 0.9
    assert samples[f"{prefix}_performance_error", ("old", "rmse", "true")] == 16
    assert samples[f"{prefix}_floor_ratio", ("big", "recall")] == 0.9
    assert samples[f"{prefix}_ceiling_error", ("old", "rmse")] == 15
    assert samples[f"{prefix}_rows", ("region=s",)] == 7
    assert samples[f"{prefix}_rows", ("big",)] == 100
    assert not any("sex=f" in labels for _, labels in samples)
    assert (f"{prefix}_performance_ratio", ("region=s", "accuracy", "false")) not in samples
    assert next(slice_samples(OWN, found, DECLARED)).label_values[2] == "big"


def test_predictions_are_shared_out_beside_the_references_and_delays_are_of_labels() -> None:
    found = [
        measured("prediction_share", "1 (< 0.5)", 0.6, 0.5),
        measured("selection_rate", "owl", 0.4, 0.3),
        measured("selection_rate", None, 0.9, 0.9),
        measured("label_delay", "90", 86_400.0, 0.0),
    ]
    assert {(s.name, s.label_values[2:]): s.value for s in share_samples(OWN, found)} == {
        ("modelwatch_prediction_share_ratio", ("1 (< 0.5)",)): 0.6,
        ("modelwatch_prediction_reference_share_ratio", ("1 (< 0.5)",)): 0.5,
        ("modelwatch_prediction_share_ratio", ("owl",)): 0.4,
        ("modelwatch_prediction_reference_share_ratio", ("owl",)): 0.3,
    }
    samples = {
        (s.name, s.label_values[2:]): s.value
        for s in model_samples(OWN, "performance", found, 0.01)
    }
    assert samples["modelwatch_label_delay_seconds", ("90",)] == 86_400
    estimated = {s.name for s in model_samples(OWN, "estimate", found, 0.01)}
    assert "modelwatch_label_delay_seconds" not in estimated


def test_a_class_has_its_recall_and_its_rows() -> None:
    found = [
        replace(measured("recall", "owl", 0.4, 0.5), ci_low=0.3, ci_high=0.5, threshold=0.45),
        measured("recall", None, 0.8, 0.9),
        measured("f1", "owl", 0.8, 0.9),
    ]
    assert {(s.name, s.label_values[2:]): s.value for s in class_samples(OWN, found)} == {
        ("modelwatch_class_recall_ratio", ("owl",)): 0.4,
        ("modelwatch_class_recall_ci_lower_ratio", ("owl",)): 0.3,
        ("modelwatch_class_recall_ci_upper_ratio", ("owl",)): 0.5,
        ("modelwatch_class_recall_floor_ratio", ("owl",)): 0.45,
        ("modelwatch_class_support_rows", ("owl",)): 100,
    }
