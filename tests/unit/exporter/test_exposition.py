"""The exposition is Prometheus' text format, complete up to its budget, and never says NaN."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from service.exporter.catalogue import CATALOGUE
from service.exporter.exposition import Sample, only_of, render, within_budget
from service.exporter.measured import feature_samples, model_samples

OWN = ("loans", "7")
SCORE = "modelwatch_feature_drift_score"


def a_row(**overrides: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "metric": "roc_auc",
        "subject": None,
        "value": 0.8,
        "ci_low": 0.78,
        "ci_high": 0.82,
        "method": "delong",
        "engine": "profile",
        "reference_value": 0.9,
        "threshold": 0.89,
        "verdict": "alert",
    }
    return SimpleNamespace(**{**fields, **overrides})


def values(samples: Iterable[Sample]) -> dict[tuple[str, ...], float]:
    return {(s.name.removeprefix("modelwatch_"), *s.label_values[2:]): s.value for s in samples}


# The client's parser cannot read a line end of another kind inside a value; Prometheus can.
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.just("\n"))


@given(st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_the_client_library_reads_back_what_was_rendered(scores: dict[str, float]) -> None:
    samples = [Sample(SCORE, (*OWN, name, "psi"), value) for name, value in scores.items()]
    read = {
        sample.labels["feature"]: sample.value
        for family in text_string_to_metric_families(render(samples).content.decode())
        for sample in family.samples
    }
    assert read == scores


def test_a_metric_that_is_not_in_the_catalogue_cannot_be_exported() -> None:
    with pytest.raises(KeyError):
        render([Sample("modelwatch_surprise", (), 1.0)])


def test_a_series_is_exported_once() -> None:
    twice = [Sample("modelwatch_label_coverage_ratio", OWN, value) for value in (1.0, 2.0)]
    assert within_budget(twice, 10) == (twice[:1], 0)


def scores_of(model: str, count: int) -> list[Sample]:
    return [Sample(SCORE, (model, "7", f"f{n}", "psi"), 1.0) for n in range(count)]


def test_a_wide_model_costs_its_own_tail() -> None:
    own, narrow, wide = (scores_of(model, n) for model, n in (("a", 9), ("b", 3), ("z", 99)))
    service = Sample("modelwatch_jobs_pending", ("window",), 3.0)
    kept, dropped = within_budget([service, *wide, *narrow, *own], 20)
    assert kept == [service, *narrow, *own[:8], *wide[:8]]
    assert dropped == 92


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(0, 120))
def test_the_budget_is_used_up_and_nobody_has_more_who_cuts_another_short(
    widths: list[int], budget: int
) -> None:
    models = [scores_of(f"m{at}", width) for at, width in enumerate(widths)]
    kept, dropped = within_budget([sample for found in models for sample in found], budget)
    assert len(kept) == min(budget, sum(widths))
    assert dropped == sum(widths) - len(kept)
    shares = [[sample for sample in kept if sample in found] for found in models]
    assert all(share == found[: len(share)] for share, found in zip(shares, models, strict=True))
    cut = [len(share) for share, width in zip(shares, widths, strict=True) if len(share) < width]
    assert max(map(len, shares), default=0) <= min(cut, default=40) + 1


def test_performance_has_its_interval_baseline_and_tolerance_under_one_unit() -> None:
    measured = [a_row(), a_row(metric="log_loss", value=0.4, ci_low=None, reference_value=None)]
    assert values(model_samples(OWN, "performance", measured, 0.01)) == {
        ("performance_ratio", "roc_auc"): 0.8,
        ("performance_ci_lower_ratio", "roc_auc"): 0.78,
        ("performance_ci_upper_ratio", "roc_auc"): 0.82,
        ("performance_baseline_ratio", "roc_auc"): 0.9,
        ("performance_tolerance_ratio", "roc_auc"): 0.01,
        ("performance_error", "log_loss"): 0.4,
        ("performance_ci_upper_error", "log_loss"): 0.82,
    }


def test_the_tolerance_of_a_loss_is_a_share_of_its_baseline() -> None:
    measured = [a_row(metric="log_loss", value=0.4, reference_value=0.5)]
    found = values(model_samples(OWN, "performance", measured, 0.1))
    assert found["performance_tolerance_error", "log_loss"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("family", "metric"), [("performance", "mean_error"), ("data", "prediction_mean")]
)
def test_what_has_a_limit_on_either_side_or_none_has_no_tolerance(family: str, metric: str) -> None:
    found = values(model_samples(OWN, family, [a_row(metric=metric)], 0.1))
    assert found["performance_baseline_error", metric] == 0.9
    assert ("performance_tolerance_error", metric) not in found


def test_estimates_and_realised_figures_do_not_mix() -> None:
    measured = [
        a_row(),
        a_row(metric="estimated_roc_auc", value=0.7),
        a_row(metric="label_coverage", value=0.5),
        a_row(metric="recall", subject="1"),
    ]
    realised = values(model_samples(OWN, "performance", measured, 0.01))
    estimated = values(model_samples(OWN, "estimate", measured, 0.01))
    assert realised["performance_ratio", "roc_auc"] == 0.8
    assert realised["label_coverage_ratio",] == 0.5
    assert estimated["estimated_performance_ratio", "roc_auc"] == 0.7
    assert not set(realised) & set(estimated)
    assert not any("recall" in key for key in realised)


def test_the_drift_of_the_label_comes_from_the_window_that_has_labels() -> None:
    label = a_row(metric="drift", subject="label", method="psi", value=0.3, threshold=0.1)
    exported = {
        family: values(model_samples(OWN, family, [label], 0.01))
        for family in ("data", "estimate", "performance")
    }
    assert exported["performance"] == {
        ("drift_score", "label", "psi"): 0.3,
        ("drift_threshold", "label", "psi"): 0.1,
    }
    assert exported["data"] == {("features_monitored",): 0.0, ("features_drifting",): 0.0}
    assert exported["estimate"] == {}
    assert list(feature_samples(OWN, [label])) == []


def test_drift_of_features_and_of_the_output_are_metrics_apart() -> None:
    measured = [
        a_row(metric="drift", subject="income", method="psi", value=0.3, threshold=0.1),
        a_row(
            metric="drift",
            subject="income",
            method="evidently.wasserstein",
            engine="evidently",
            value=0.5,
            threshold=None,
            verdict=None,
        ),
        # Not monitored by us, only told by another.
        a_row(
            metric="drift",
            subject="age",
            method="evidently.psi",
            engine="evidently",
            value=0.1,
            threshold=None,
            verdict=None,
        ),
        a_row(metric="drift", subject="score", method="psi", value=0.2, threshold=None),
        a_row(metric="missing_ratio", subject="income", value=0.25, verdict=None),
    ]
    assert values(model_samples(OWN, "data", measured, 0.01)) == {
        ("drift_score", "score", "psi"): 0.2,
        ("features_monitored",): 1.0,
        ("features_drifting",): 1.0,
    }
    assert values(sample for _, sample in feature_samples(OWN, measured)) == {
        ("feature_drift_score", "income", "psi"): 0.3,
        ("feature_drift_threshold", "income", "psi"): 0.1,
        ("feature_drift_score", "income", "evidently_wasserstein"): 0.5,
        ("feature_drift_score", "age", "evidently_psi"): 0.1,
        ("feature_drift_consecutive_windows", "income"): 0,
        ("feature_missing_ratio", "income"): 0.25,
    }


def test_a_check_fails_if_any_column_does_and_is_not_there_where_nothing_was_judged() -> None:
    measured = [
        a_row(metric="missing_ratio", subject="income", verdict="ok"),
        a_row(metric="missing_ratio", subject="age", verdict="alert"),
        a_row(metric="unseen_ratio", subject="city", verdict="ok"),
        a_row(metric="duplicate_ratio", verdict="insufficient_data"),
        a_row(metric="rows", verdict=None),
    ]
    found = values(model_samples(OWN, "data", measured, 0.01))
    checks = {key[1:]: value for key, value in found.items() if "data_quality" in key[0]}
    assert checks == {
        ("missing_ratio", "critical"): 1,
        ("unseen_ratio", "critical"): 0,
        **dict.fromkeys(
            [
                ("constant", "critical"),
                ("unit_change", "critical"),
                ("type_error_ratio", "critical"),
                ("rejected_ratio", "critical"),
            ],
            0,
        ),
    }


def test_every_metric_of_the_catalogue_has_the_prefix_and_a_sentence() -> None:
    for name, spec in CATALOGUE.items():
        assert name.startswith("modelwatch_")
        assert spec.meaning.endswith(".")
        assert "\n" not in spec.meaning


def test_every_series_of_a_model_names_it_first() -> None:
    for spec in CATALOGUE.values():
        assert "model" not in spec.metric_labels[1:]


def test_only_the_series_of_the_wanted_models_are_left() -> None:
    samples = [
        Sample("modelwatch_verdict", ("loans", "1", "drift"), 1.0),
        Sample("modelwatch_verdict", ("loans-2", "1", "drift"), 1.0),
        Sample("modelwatch_jobs_pending", ("window",), 3.0),
    ]
    text = only_of(render(samples), ["loans", "unheard"]).decode()
    (series,) = [line for line in text.splitlines() if not line.startswith("#")]
    assert 'model="loans"' in series


# Rows bring the values of a slice: what some call an end of a line is none of the format's.
any_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.sampled_from(["loans", "fraud", "churn"]), any_text), unique=True))
@example([("loans", "a\u2028# TYPE modelwatch_verdict none"), ("fraud", "a\x85b"), ("loans", "b")])
def test_whoever_sees_one_model_reads_it_as_if_there_were_no_other(
    found: list[tuple[str, str]],
) -> None:
    samples = [Sample(SCORE, (model, "7", name, "psi"), 0.5) for model, name in found]
    exposition = render(samples)
    for seen in (["loans"], ["churn", "loans"]):
        own = [sample for sample in samples if sample.label_values[0] in seen]
        if own:
            assert sorted(only_of(exposition, seen).split(b"\n")) == sorted(
                render(own).content.split(b"\n")
            )
