"""The metrics of every task, by one call: the profile's kind says which task it is."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from service.detection import performance, regression
from service.detection.metric_laws import EITHER, HIGHER, INFORMATION, METRIC_SPECS
from service.detection.metric_value import MetricValue
from service.detection.multiclass import MULTICLASS_METRICS, Key, measure_multiclass
from service.detection.multiclass_joint import JointScores
from service.detection.performance import METRICS, measure_performance
from service.detection.regression import REGRESSION_METRICS, measure_regression
from service.profiles.profile import (
    Floats,
    MulticlassProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)

METRICS_OF: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {
        PerformanceProfile: tuple(METRICS),
        MulticlassProfile: tuple(MULTICLASS_METRICS),
        RegressionProfile: tuple(REGRESSION_METRICS),
    }
)
KNOWN = frozenset(name for names in METRICS_OF.values() for name in names)
# Metrics whose tolerance is a share of the baseline.
RELATIVE = performance.LOSSES | regression.ERRORS
HIGHER_IS_WORSE = frozenset(n for n, s in METRIC_SPECS.items() if s.direction == HIGHER)
# Their tolerance is a share of the baseline's mean error.
SIGNED = frozenset(n for n, s in METRIC_SPECS.items() if s.direction == EITHER)
# Without a worse side, or without an interval: recorded, never judged.
RECORDED = frozenset(n for n, s in METRIC_SPECS.items() if s.direction == INFORMATION) & KNOWN


def measure(
    profile: Performance,
    names: Sequence[str] | None = None,
    edges: Floats | None = None,
    joint: JointScores | None = None,
) -> dict[Key, MetricValue]:
    """Compute metrics with 95 % intervals.

    Parameters
    ----------
    profile
        Labelled rows of any task.
    names
        Which metrics of the task; all by default.
    edges
        Inner edges of the score histograms, for what is of the scores and not of their order.
    joint
        Rows of the reference, for the errors of means over many classes.

    Returns
    -------
    dict
        By metric and class; the class is ``None`` for what is not of a single one.

    Raises
    ------
    KeyError
        If a name is no metric of the task.
    """
    if isinstance(profile, MulticlassProfile):
        return measure_multiclass(profile, names, edges, joint)
    found = (
        measure_regression(profile, names)
        if isinstance(profile, RegressionProfile)
        else measure_performance(profile, names, edges)
    )
    return {(name, None): value for name, value in found.items()}
