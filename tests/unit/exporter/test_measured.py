"""What the exporter makes of measurements of models that are not binary."""

from service.evaluation.measurement import Direction, Measurement, Verdict
from service.exporter.measured import feature_samples, model_samples

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
