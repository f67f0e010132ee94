import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.detection import metrics
from service.detection.evidently_methods import METHODS as EVIDENTLY
from service.detection.methods import METHODS as DRIFT
from service.detection.outputs import OUTPUTS
from service.errors import InvalidDocumentError, NotImplementedYetError
from service.profiles.columns import Kind
from service.registry.documents import read, read_stored
from service.registry.monitor import MonitorDocument, default_document, fit_to_task
from service.registry.monitor_drift import (
    DRIFT_METHODS,
    EVIDENTLY_CATEGORICAL,
    EVIDENTLY_NUMERIC,
    Drift,
)
from service.registry.monitor_performance import (
    HIGHER_IS_WORSE,
    METRICS,
    METRICS_OF,
    RECORDED,
)
from service.registry.monitor_values import read_duration, write_duration
from service.registry.slicing import LIMITED


def a_document(**content: Any) -> MonitorDocument:
    return read(MonitorDocument, {"model": "loans", **content})


def test_no_document_means_the_documented_defaults() -> None:
    content = default_document("loans").model_dump(mode="json")
    assert content == {
        "model": "loans",
        "window": "1d",
        "every": "1d",
        "bucket": "1h",
        "timezone": "UTC",
        "grace": "15m",
        "min_rows": 100,
        "reference": "training",
        "drift": {"method": "jensen_shannon", "alpha": 0.01, "min_effect": None, "features": {}},
        "evidently": {
            "methods": {"numeric": "wasserstein", "categorical": "jensenshannon"},
            "max_rows": 50000,
        },
        "multivariate": {
            "alpha": 0.01,
            "min_auc": 0.6,
            "methods": ["domain_classifier", "pca"],
            "max_rows": 10000,
        },
        "quality": {
            "alpha": 0.01,
            "missing": 0.05,
            "out_of_range": 0.01,
            "unseen": 0.01,
            "type_errors": 0.01,
            "rejected": 0.01,
            "duplicates": 0.01,
            "conflicting_labels": 0.01,
            "min_rows_per_hour": None,
        },
        "performance": {
            "alpha": 0.01,
            "metrics": ["roc_auc", "accuracy", "recall"],
            "tolerance": 0.01,
            "min_label_coverage": 0.5,
            "label_horizon": "30d",
        },
        "alert": {"open": "2 of 3", "close_after": 2, "cooldown": "1d"},
        "retraining": {"min_labelled_rows": 1000, "cooldown": "1w", "webhooks": None},
        "slices": [],
        "discover_slices": True,
        "fairness": [],
        "retention": {"rows": None},
    }


@given(
    st.builds(
        dict,
        window=st.sampled_from(["1h", "6h", "1d", "1w", "1mo"]),
        grace=st.integers(0, 999).map("{}m".format),
        min_rows=st.integers(1, 10**6),
        performance=st.builds(
            dict, metrics=st.lists(st.sampled_from(METRICS), unique=True, max_size=5)
        ),
        drift=st.builds(dict, min_effect=st.floats(0, 1), method=st.sampled_from(DRIFT_METHODS)),
    )
)
def test_a_stored_document_reads_as_itself(content: dict[str, Any]) -> None:
    document = a_document(**content)
    stored = json.loads(json.dumps(document.model_dump(mode="json")))
    assert MonitorDocument.model_validate(stored) == document


def test_every_drift_method_may_be_asked_for_and_its_own_minimum_effect_is_said() -> None:
    assert set(DRIFT_METHODS) == DRIFT.keys()
    for name in DRIFT_METHODS:
        assert a_document(drift={"method": name}).drift.method == name
    own = {name for name, method in DRIFT.items() if method.default_min_effect != 0.1}
    assert own == {"wasserstein"}
    assert DRIFT["wasserstein"].default_min_effect == 0.2
    assert "0.1, for wasserstein 0.2" in str(Drift.model_fields["min_effect"].description)


@pytest.mark.parametrize("window", ["1h", "6h", "1d", "1w", "1mo"])
def test_the_step_is_the_window_unless_another_is_named(window: str) -> None:
    assert a_document(window=window).every == window


@pytest.mark.parametrize(
    ("window", "steps"),
    [
        ("1h", {"1h"}),
        ("6h", {"1h", "6h"}),
        ("1d", {"1h", "6h", "1d"}),
        ("1w", {"1h", "6h", "1d", "1w"}),
        ("1mo", {"1mo"}),
    ],
)
def test_only_a_step_that_divides_the_window_slides_it(window: str, steps: set[str]) -> None:
    accepted = set()
    for every in ("1h", "6h", "1d", "1w", "1mo"):
        with contextlib.suppress(InvalidDocumentError):
            accepted.add(a_document(window=window, every=every).every)
    assert accepted == steps


@pytest.mark.parametrize(
    ("content", "field", "word"),
    [
        ({"windw": "1d"}, "", "'window'"),
        ({"drift": {"methd": "psi"}}, "drift", "'method'"),
        ({"drift": {"method": "jensen_shanon"}}, "drift.method", "'jensen_shannon'"),
        ({"drift": {"features": {"age": {"ignored": True}}}}, "drift.features.age", "'ignore'"),
        ({"performance": {"metrics": ["rocauc"]}}, "performance.metrics", "'roc_auc'"),
        ({"evidently": {"methods": {"numeric": "waserstein"}}}, "evidently.methods.numeric",
         "'wasserstein'"),
    ],
)  # fmt: skip
def test_a_misspelt_word_is_met_with_the_right_one(
    content: dict[str, Any], field: str, word: str
) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        a_document(**content)
    assert f"did you mean {word}?" in caught.value.detail
    assert caught.value.rejected[0]["field"] == field


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"bucket": "15m"}, "a bucket other than 1h"),
        ({"timezone": "Asia/Kolkata"}, "timezone: Asia/Kolkata"),
        ({"timezone": "Australia/Lord_Howe"}, "timezone: Australia/Lord_Howe"),
    ],
)
def test_what_a_later_release_brings_is_named(content: dict[str, Any], named: str) -> None:
    with pytest.raises(NotImplementedYetError) as caught:
        a_document(**content)
    assert named in caught.value.detail
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "content",
    [
        {"min_rows": 0},
        {"grace": "soon"},
        {"grace": 15},
        {"timezone": "Europe"},
        {"timezone": "../../etc/passwd"},
        {"reference": []},
        {"reference": "none"},
        {"drift": {"alpha": 0}},
        {"drift": {"alpha": float("nan")}},
        {"performance": {"metrics": ["recall", "recall"]}},
        {1: 2},
    ],
)
def test_what_makes_no_sense_is_refused(content: dict[Any, Any]) -> None:
    with pytest.raises(InvalidDocumentError):
        read(MonitorDocument, {"model": "loans", **content})


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidDocumentError, match="must be an object"):
        read(MonitorDocument, ["loans"])


def test_a_refusal_lists_every_mistake_and_echoes_no_value() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        a_document(grace="hunter2", min_rows=-5)
    assert {each["field"] for each in caught.value.rejected} == {"grace", "min_rows"}
    assert "hunter2" not in str(caught.value.rejected) + caught.value.detail


@given(st.integers(0, 10**6), st.sampled_from("smhdw"))
def test_a_duration_is_written_as_it_can_be_read(number: int, unit: str) -> None:
    duration = read_duration(f"{number % 1000}{unit}")
    assert isinstance(duration, timedelta)
    assert read_duration(write_duration(duration)) == duration


def test_durations_by_hand() -> None:
    assert read_duration("15m") == timedelta(minutes=15)
    assert write_duration(timedelta(hours=36)) == "36h"
    assert write_duration(timedelta(days=14)) == "2w"
    assert write_duration(timedelta()) == "0s"


def test_the_methods_of_evidently_are_those_that_its_adapter_knows() -> None:
    known = {
        kind: {name for name, method in EVIDENTLY.items() if kind in method.kinds}
        for kind in (Kind.NUMERIC, Kind.CATEGORICAL)
    }
    assert set(EVIDENTLY_NUMERIC) == known[Kind.NUMERIC]
    assert set(EVIDENTLY_CATEGORICAL) == known[Kind.CATEGORICAL]


@pytest.mark.parametrize("text", ["3 of 2", "0 of 3", "2", "2 of 1000", "two of three"])
def test_k_of_n_must_be_possible(text: str) -> None:
    with pytest.raises(InvalidDocumentError, match="k of n"):
        read(MonitorDocument, {"model": "loans", "alert": {"open": text}})


def test_k_of_n_is_two_of_three_unless_said_otherwise() -> None:
    assert MonitorDocument(model="loans").alert.k_of_n == (2, 3)
    document = read(MonitorDocument, {"model": "loans", "alert": {"open": "3 of 10"}})
    assert document.alert.k_of_n == (3, 10)


CRITICAL = {"name": "big", "where": "amount > 5", "critical": True, "metric": "recall"}


def test_slices_and_fairness_are_read_with_their_defaults() -> None:
    document = a_document(
        slices=[{"column": "region"}, {"column": ["region", "gender"]}, {**CRITICAL, "floor": 0.9}],
        fairness=[{"column": "gender", "reference_group": "male"}],
    )
    by_value, crossed, big = document.slices
    assert (by_value.column, crossed.column) == (("region",), ("region", "gender"))
    assert (big.name, big.critical, big.floor) == ("big", True, 0.9)
    assert big.reads() == {"amount"}
    assert document.fairness[0].min_disparate_impact == 0.8
    assert MonitorDocument.model_validate(document.model_dump(mode="json")) == document


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"slices": [{}]}, "either a column or a where"),
        ({"slices": [{"column": "a", "name": "b"}]}, "a column has none"),
        ({"slices": [{"where": "a = 1"}]}, "a where has a name"),
        ({"slices": [{"name": "a=b", "where": "a = 1"}]}, "'='"),
        ({"slices": [CRITICAL]}, "belong together"),
        ({"slices": [{"column": "a", "floor": 0.5}]}, "belong together"),
        ({"slices": [{**CRITICAL, "floor": 0.9, "metric": "recal"}]}, "did you mean 'recall'"),
        ({"slices": [{"column": "score"}]}, "write a where"),
        ({"slices": [{"column": ["a", "a"]}]}, "crossed with itself"),
        ({"slices": [{"column": "a"}, {"column": "a"}]}, "declared twice"),
        ({"slices": [{"column": "tags.a'b"}]}, "a tag's name"),
        ({"slices": [{"name": "x", "where": "amount >"}]}, "position 9"),
        ({"slices": [{"column": f"c{i}"} for i in range(201)]}, "at most 200"),
        ({"slices": [{"colum": "a"}]}, "did you mean 'column'"),
        ({"fairness": [{"column": "a", "min_disparate_impact": 2}]}, "less than or equal to 1"),
    ],
)
def test_a_slice_that_makes_no_sense_says_why(content: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        a_document(**content)
    assert said in caught.value.detail


@pytest.mark.parametrize(
    ("task", "metric", "limit"),
    [
        ("binary", "brier_score", "ceiling"),
        ("multiclass", "balanced_accuracy", "floor"),
        ("regression", "rmse", "ceiling"),
        ("regression", "r2", "floor"),
    ],
)
def test_a_critical_slice_has_a_floor_or_of_an_error_a_ceiling(
    task: str, metric: str, limit: str
) -> None:
    critical = {**CRITICAL, "metric": metric, limit: 0.5}
    document = a_document(slices=[critical])
    assert fit_to_task(document, task).slices[0].limit == 0.5
    other = {"floor": "ceiling", "ceiling": "floor"}[limit]
    with pytest.raises(InvalidDocumentError, match=f"{metric} has a {limit}"):
        a_document(slices=[{**CRITICAL, "metric": metric, other: 0.5}])
    with pytest.raises(InvalidDocumentError, match="belong together"):
        a_document(slices=[{**critical, other: 0.5}])


@pytest.mark.parametrize(
    ("task", "content", "said"),
    [
        (
            "binary",
            {"slices": [{**CRITICAL, "metric": "r2", "floor": 0.5}]},
            "r2 is not of",
        ),
        ("regression", {"slices": [{**CRITICAL, "floor": 0.5}]}, "mae, rmse"),
        ("regression", {"fairness": [{"column": "sex"}]}, "a regression predicts numbers"),
        ("multiclass", {"fairness": [{"column": "sex"}]}, "needs its favourable_class"),
    ],
)
def test_what_a_task_cannot_have_is_refused(task: str, content: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        fit_to_task(a_document(**content), task)
    assert said in caught.value.detail


def test_the_document_knows_what_gets_worse_by_rising() -> None:
    assert metrics.HIGHER_IS_WORSE & set(LIMITED) == HIGHER_IS_WORSE


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_what_is_recorded_without_a_verdict_says_why_when_a_monitor_lists_it(name: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        a_document(performance={"metrics": [name]})
    assert RECORDED[name] in caught.value.detail


def test_the_document_knows_every_metric_that_is_measured() -> None:
    for task, names in zip(METRICS_OF, metrics.METRICS_OF.values(), strict=True):
        assert set(names) - metrics.RECORDED == set(METRICS_OF[task]), task
    assert set(RECORDED) == metrics.RECORDED | OUTPUTS


def test_a_stored_document_of_a_later_release_is_read_without_what_it_adds() -> None:
    stored = a_document(window="1d").model_dump(mode="json")
    later = {**stored, "mood": "calm", "alert": {**stored["alert"], "louder": True}}
    assert read_stored(MonitorDocument, later) == read_stored(MonitorDocument, stored)
    with pytest.raises(InvalidDocumentError, match="mood"):
        read(MonitorDocument, later)
