"""Why a model is not well: its performance, the drift of its input and output, its labels."""

from grafana import frame
from grafana.palette import BAD, GOOD, NEUTRAL, WARN, WATCH, steps
from grafana.panels import Panel, band, bars, heat_rows, lines, pairs, styled, timeline
from grafana.sources import FEW, metric, peaks, query
from service.detection.metrics import HIGHER_IS_WORSE

WINDOWS = ("Windows: every number, and their reports", frame.MODEL_WINDOWS)
METRIC = 'metric="$metric"'
FEATURE = 'feature=~"$feature"'
OWN = 'method!~"evidently_.*"'
NO_LABELS = "No labelled window in this time"
NO_WINDOW = "No judged window in this time"


def either(name: str, where: str = METRIC, by: str = "metric") -> str:
    """Return a figure of performance, whether it is a ratio or an error without bounds."""
    found = [metric(f"{name}_{unit}", where) for unit in ("ratio", "error")]
    return " or ".join(f"max by ({by}) ({each})" for each in found)


def limit() -> str:
    """Return where the tolerated loss ends, on the side that is worse."""
    worse_up = "|".join(sorted(HIGHER_IS_WORSE))
    parts = []
    for matcher, sign in (("!~", "-"), ("=~", "+")):
        where = f'{METRIC},metric{matcher}"{worse_up}"'
        for unit in ("ratio", "error"):
            baseline = metric(f"performance_baseline_{unit}", where)
            tolerance = metric(f"performance_tolerance_{unit}", where)
            parts.append(f"max by (metric) ({baseline}) {sign} max by (metric) ({tolerance})")
    return " or ".join(parts)


def performance() -> list[Panel]:
    """Return what was measured on labels, and what was estimated before them."""
    realised = lines(
        "$metric on labelled rows, with its interval",
        "Measured once labels are in, at the time it became known. It alerts where it is worse "
        "than the limit by more than chance.",
        query(either("performance"), "measured"),
        query(either("performance_ci_upper"), "upper", ref="B"),
        query(either("performance_ci_lower"), "lower", ref="C"),
        query(either("performance_baseline"), "reference", ref="D"),
        query(limit(), "limit", ref="E"),
        w=12,
        h=9,
        nothing=NO_LABELS,
        to=[WINDOWS],
    )
    styled(band(realised, "lower", "upper", NEUTRAL), "measured", NEUTRAL)
    styled(styled(realised, "reference", GOOD), "limit", BAD, dashed=True)
    estimated = lines(
        "$metric estimated before labels, with its interval",
        "What the scores promise (CBPE, DLE), beside what labels showed. An estimate cannot see "
        "that the concept changed: where the two part, it did.",
        query(either("estimated_performance"), "estimated"),
        query(either("estimated_performance_ci_upper"), "upper", ref="B"),
        query(either("estimated_performance_ci_lower"), "lower", ref="C"),
        query(either("performance"), "measured", ref="D"),
        w=12,
        h=9,
        nothing="No estimate in this time",
        to=[WINDOWS],
    )
    styled(band(estimated, "lower", "upper", "purple"), "estimated", "purple")
    styled(estimated, "measured", NEUTRAL)
    return [realised, estimated]


def drift() -> list[Panel]:
    """Return what moved: features, the output, the predictions."""
    return [*_of_features(), _of_output(), *_of_predictions()]


def _of_features() -> list[Panel]:
    score = f"max by (feature, method) ({metric('feature_drift_score', f'{FEATURE},{OWN}')})"
    threshold = f"max by (feature, method) ({metric('feature_drift_threshold', FEATURE)})"
    in_a_row = metric("feature_drift_consecutive_windows", FEATURE)
    return [
        heat_rows(
            "Drift by feature",
            "Distance of each feature's distribution from the reference, in every window; the "
            "monitor's own method.",
            query(f"max by (feature) ({score})", "{{feature}}"),
            w=14,
            nothing=NO_WINDOW,
            to=[WINDOWS],
        ),
        bars(
            "Drift over its threshold, now",
            "The score as a multiple of the threshold that it is judged by, which grows as rows "
            "get fewer. From 1 on it alerts, if it is more than chance.",
            query(f"topk(10, max by (feature) ({score} / {threshold}))", "{{feature}}", now=True),
            w=10,
            h=10,
            unit="none",
            decimals=2,
            colors=steps(GOOD, (0.7, WATCH), (1, BAD)),
            nothing=NO_WINDOW,
            to=[WINDOWS],
        ),
        timeline(
            "Windows in a row that drift",
            "How many windows in a row alert about the feature; the "
            f"{FEW} features with the longest row in this time.",
            query(peaks(f"max by (feature) ({in_a_row})", "feature"), "{{feature}}"),
            w=14,
            h=9,
            nothing=NO_WINDOW,
            colors=steps("transparent", (1, WATCH), (2, WARN), (3, BAD)),
        ),
    ]


def _of_output() -> Panel:
    score = f"max by (target, method) ({metric('drift_score', OWN)})"
    threshold = f"max by (target, method) ({metric('drift_threshold')})"
    return lines(
        "Drift of the output, over its threshold",
        "Of the prediction, the score and the label; of whole rows (target rows) what a "
        "classifier or principal components see. As a multiple of the threshold.",
        query(peaks(f"{score} / {threshold}", "target"), "{{target}}: {{method}}"),
        w=10,
        h=9,
        unit="none",
        colors=steps("transparent", (1, BAD)),
        zero=True,
        nothing=NO_WINDOW,
    )


def _of_predictions() -> list[Panel]:
    share = f"max by (bucket) ({metric('prediction_share_ratio')})"
    reference = f"max by (bucket) ({metric('prediction_reference_share_ratio')})"
    most = f"topk({2 * FEW}, {share})"
    return [
        heat_rows(
            "Predictions, by bucket",
            "Share of predictions in each bucket of score, value or class.",
            query(share, "{{bucket}}"),
            w=14,
            h=9,
            unit="percentunit",
            scheme="Blues",
            nothing=NO_WINDOW,
        ),
        pairs(
            "Predictions and the reference, now",
            "Share of predictions in each bucket of the newest window, and in the reference; of "
            f"more than {2 * FEW} classes the largest.",
            query(most, table=True),
            query(f"{reference} and on (bucket) {most}", ref="B", table=True),
            w=10,
            h=9,
            unit="percentunit",
            by="bucket",
            names=[("now", NEUTRAL), ("reference", GOOD)],
        ),
    ]


def labels() -> list[Panel]:
    """Return how many labels are in, how late, and of how many rows the windows are."""
    coverage = lines(
        "Labels that are in",
        "Share of the newest labelled window that has labels, and the share under which nothing "
        "is judged.",
        query(f"max({metric('label_coverage_ratio')})", "labelled"),
        query(f"max({metric('label_coverage_floor_ratio')})", "floor", ref="B"),
        w=8,
        unit="percentunit",
        zero=True,
        nothing=NO_LABELS,
    )
    styled(styled(coverage, "labelled", NEUTRAL), "floor", BAD, dashed=True)
    delay = metric("label_delay_seconds")
    return [
        coverage,
        lines(
            "Delay of labels",
            "How long after their prediction labels came, in the newest labelled window.",
            query(f"max by (percentile) ({delay})", "percentile {{percentile}}"),
            w=8,
            nothing=NO_LABELS,
            unit="s",
            zero=True,
        ),
        lines(
            "Rows of the windows",
            "Rows of the newest judged window; of performance the labelled ones.",
            query(f"max by (kind) ({metric('evaluation_window_rows')})", "{{kind}}"),
            w=8,
            nothing=NO_WINDOW,
            zero=True,
        ),
    ]
