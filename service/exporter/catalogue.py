"""Every metric of ``/metrics/models``: a metric that is not listed here cannot be exported."""

from dataclasses import dataclass

VERSION = ("model", "model_version")
CAUSE = ("kind", "check", "subject", "slice")
INCIDENT = (*CAUSE, "severity", "action")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """The name of a gauge, its metric labels in order, and what it means."""

    name: str
    metric_labels: tuple[str, ...]
    meaning: str


def _of_version(name: str, meaning: str, *metric_labels: str) -> MetricSpec:
    return MetricSpec(f"modelwatch_{name}", (*VERSION, *metric_labels), meaning)


def _performance(prefix: str, what: str, unit: str) -> tuple[MetricSpec, ...]:
    siblings = (
        ("", what),
        ("_ci_lower", f"Lower end of the interval of: {what}"),
        ("_ci_upper", f"Upper end of the interval of: {what}"),
        ("_baseline", f"Value in the reference of: {what}"),
        ("_tolerance", f"Loss against the baseline that is tolerated for: {what}"),
    )
    return tuple(
        _of_version(f"{prefix}{sibling}_{unit}", meaning, "metric") for sibling, meaning in siblings
    )


SERVICE = (
    MetricSpec(
        "modelwatch_worker_heartbeat_timestamp_seconds",
        (),
        "When a worker was last known to be alive; the newest of all workers.",
    ),
    MetricSpec(
        "modelwatch_jobs_pending", ("queue",), "Pieces of work that are due and not finished."
    ),
    MetricSpec(
        "modelwatch_job_oldest_pending_age_seconds",
        ("queue",),
        "How long the oldest unfinished piece of work has been due; 0 without any.",
    ),
    MetricSpec(
        "modelwatch_labels_pending",
        ("model",),
        "Predictions that have a label and have not come, as the worker last knew.",
    ),
    MetricSpec("modelwatch_export_series", (), "Series in this exposition, these included."),
    MetricSpec(
        "modelwatch_export_series_dropped", (), "Series left out because of the series budget."
    ),
    MetricSpec(
        "modelwatch_export_refresh_duration_seconds",
        (),
        "Time that the last refresh of this exposition took.",
    ),
    MetricSpec(
        "modelwatch_export_refresh_timestamp_seconds",
        (),
        "When this exposition was read from the database.",
    ),
)

PER_VERSION = (
    _of_version("model_info", "Constant 1 for a live version.", "task", "stage", "owner"),
    _of_version("model_deployed_timestamp_seconds", "When the version was registered."),
    _of_version(
        "evaluation_window_end_timestamp_seconds",
        "End of the newest judged window, by the kind of figures it gave.",
        "kind",
    ),
    _of_version("evaluation_interval_seconds", "How often a window of the version is judged."),
    _of_version(
        "evaluation_window_rows",
        "Rows of the newest judged window; labelled rows for kind performance.",
        "kind",
    ),
    _of_version(
        "verdict", "Verdict of the newest window: 0 ok, 1 alert, 2 insufficient data.", "kind"
    ),
    _of_version("features_monitored", "Features whose drift was measured in the newest window."),
    _of_version("features_drifting", "Features whose drift alerts in the newest window."),
    _of_version(
        "data_quality_check_failed",
        "1 if the check alerts about any column of the newest window, 0 if it alerts about none.",
        "check",
        "check_severity",
    ),
    _of_version(
        "drift_score",
        "Drift of the model's output (target prediction, score or label), and of whole rows "
        "(target rows); higher is worse, but for p-values of evidently_<test>.",
        "target",
        "method",
    ),
    _of_version(
        "drift_threshold", "Score from which drift of the output alerts.", "target", "method"
    ),
    *_performance("performance", "Performance on labelled rows.", "ratio"),
    *_performance("performance", "Performance on labelled rows, of unbounded metrics.", "error"),
    *_performance("estimated_performance", "Performance estimated without labels.", "ratio"),
    *_performance(
        "estimated_performance",
        "Performance estimated without labels, of unbounded metrics.",
        "error",
    ),
    _of_version(
        "concept_drift_ratio",
        "Realised performance less what was promised of the same rows; of a regression's errors a "
        "share of the reference's.",
        "metric",
    ),
    _of_version(
        "calibration_drift_ratio",
        "Mean difference of the share of positives and their probability, beyond chance.",
    ),
    _of_version(
        "label_coverage_ratio",
        "Share of labelled rows in the newest window that labels judge, or should judge by now.",
    ),
    _of_version(
        "label_coverage_floor_ratio", "Label coverage under which performance is not judged."
    ),
    _of_version(
        "label_delay_seconds",
        "How long after their prediction labels came, in the newest labelled window.",
        "percentile",
    ),
    _of_version("last_prediction_timestamp_seconds", "Time of the version's newest prediction."),
    _of_version(
        "expected_prediction_interval_seconds",
        "Within which there is always a prediction: an hour where the monitor says how many rows "
        "an hour has, else the evaluation interval.",
    ),
    _of_version("retraining_requests", "Retraining requests of the version.", "state"),
    _of_version(
        "incident_open",
        "Constant 1 while an incident is open or acknowledged; `check` tells those of a kind and "
        "column apart, `action` is what it asks for.",
        *INCIDENT,
    ),
    _of_version(
        "incident_since_timestamp_seconds",
        "Start of the window since which an incident that is open or acknowledged alerts.",
        *INCIDENT,
    ),
)

PER_INCIDENT = (
    _of_version(
        "incident_window_end_timestamp_seconds",
        "End of the newest window that alerts about an open incident.",
        *CAUSE,
    ),
    *(
        _of_version(f"incident_{name}", meaning, *CAUSE, "metric")
        for name, meaning in (
            (
                "value",
                "What that window alerts about, in the unit of the metric; three metrics at most.",
            ),
            ("ci_lower", "Lower end of its interval."),
            ("ci_upper", "Upper end of its interval."),
            ("threshold", "Value from which it alerts, if chance does not explain it."),
            ("reference", "Value in the reference."),
            ("rows", "Rows that it rests on."),
        )
    ),
)

PER_FEATURE = (
    _of_version(
        "feature_drift_score",
        "Drift of a feature; higher is worse, but for p-values of evidently_<test>.",
        "feature",
        "method",
    ),
    _of_version(
        "feature_drift_threshold",
        "Score from which drift of the feature alerts.",
        "feature",
        "method",
    ),
    _of_version(
        "feature_drift_consecutive_windows",
        "Newest windows in a row whose drift of the feature alerts; counted up to 24.",
        "feature",
    ),
    _of_version("feature_missing_ratio", "Share of rows without the feature.", "feature"),
    _of_version(
        "feature_out_of_range_ratio",
        "Share of values outside the feature's declared range, else the reference's.",
        "feature",
    ),
    _of_version(
        "feature_unseen_ratio", "Share of values that the reference does not have.", "feature"
    ),
)


def _of_slice(unit: str, of_what: str) -> tuple[MetricSpec, ...]:
    what = f"Performance of a declared slice{of_what}"
    values = ("slice", "metric", "critical")
    return (
        _of_version(f"slice_performance_{unit}", f"{what}.", *values),
        *(
            _of_version(
                f"slice_performance_ci_{end}_{unit}",
                f"{end.capitalize()} end of the interval of: {what}.",
                *values,
            )
            for end in ("lower", "upper")
        ),
        _of_version(
            f"slice_floor_{unit}",
            f"What a critical slice must not be significantly below{of_what}.",
            *("slice", "metric"),
        ),
        _of_version(
            f"slice_ceiling_{unit}",
            f"What a critical slice must not be significantly above{of_what}.",
            *("slice", "metric"),
        ),
    )


PER_GROUP = (
    *_of_slice("ratio", ""),
    *_of_slice("error", ", of unbounded metrics"),
    _of_version("slice_rows", "Labelled rows of a declared slice in the newest window.", "slice"),
    _of_version("class_recall_ratio", "Recall of one class of many.", "class"),
    _of_version(
        "class_recall_ci_lower_ratio", "Lower end of the interval of a class's recall.", "class"
    ),
    _of_version(
        "class_recall_ci_upper_ratio", "Upper end of the interval of a class's recall.", "class"
    ),
    _of_version(
        "class_recall_floor_ratio",
        "Recall that the class must not be significantly below.",
        "class",
    ),
    _of_version("class_support_rows", "Labelled rows of one class of many.", "class"),
    _of_version(
        "prediction_share_ratio",
        "Share of predictions in a bucket: of scores or values, else a class.",
        "bucket",
    ),
    _of_version(
        "prediction_reference_share_ratio",
        "Share of the reference's predictions in a bucket.",
        "bucket",
    ),
)

CATALOGUE = {
    spec.name: spec for spec in (*SERVICE, *PER_VERSION, *PER_GROUP, *PER_INCIDENT, *PER_FEATURE)
}
