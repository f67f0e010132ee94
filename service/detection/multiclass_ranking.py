"""How well the scores of many classes rank each of them against the rest."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from service.detection.metric_value import DELONG, DELTA_ON_LOGIT, MetricValue, auc_on_logit
from service.detection.multiclass_joint import JointScores
from service.detection.performance import NO_EDGES, placements
from service.detection.precision_recall import precision_with_variance
from service.profiles.profile import Counts, Floats, MulticlassProfile

MISSING_CLASS = "missing_class"
# An error that is at most too large.
BOUND = "_bound"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside a profile: the edges of its scores, and rows of its reference."""

    edges: Floats | None = None
    joint: JointScores | None = None


def by_label(profile: MulticlassProfile, position: int) -> tuple[Counts, Floats]:
    """Return scored rows and their Σw: another class or this one, by bin of this one's score."""
    return profile.label_score_counts[position], profile.label_score_weights[position]


def kish_share(profile: MulticlassProfile) -> float:
    """Return effective rows per row; scored rows' weights spread like all rows'."""
    weight, squares = profile.confusion_weights.sum(), profile.confusion_weights_squared.sum()
    return float(weight**2 / (squares * profile.labelled)) if squares > 0 else 1.0


def _auc_of_class(
    counts: Counts, weights: Floats, share: float, _: Floats | None
) -> tuple[float, float]:
    """Return a class's AUC against the rest, and its variance."""
    rest, own = weights
    above, below = placements(own, rest)
    value = float(own @ above / own.sum())
    variance = 0.0
    rest_rows, own_rows = counts.sum(axis=1).tolist()
    for weight, placed, rows in ((own, above, own_rows), (rest, below, rest_rows)):
        spread = float(weight @ (placed - value) ** 2 / weight.sum())
        variance += spread / max(rows * share - 1, 1)
    return value, variance


def _precision_of_class(
    counts: Counts, weights: Floats, share: float, edges: Floats | None
) -> tuple[float, float]:
    """Return a class's average precision against the rest, and its variance."""
    assert edges is not None
    rest_rows, own_rows = counts.sum(axis=1).tolist()
    return precision_with_variance(counts, weights, (rest_rows * share, own_rows * share), edges)


_RANKED = MappingProxyType(
    {
        "roc_auc": (_auc_of_class, DELONG),
        "average_precision": (_precision_of_class, DELTA_ON_LOGIT),
    }
)


def _ranked(
    name: str, profile: MulticlassProfile, position: int, edges: Floats | None
) -> tuple[float, float, int] | str:
    """Return a class's value against the rest, its variance and the smaller side's rows."""
    counts, weights = by_label(profile, position)
    if not counts.any():
        return "no_scores" if profile.labelled else "no_rows"
    if not (weights.sum(axis=1) > 0).all():
        return MISSING_CLASS
    if name == "average_precision" and edges is None:
        return NO_EDGES
    value, variance = _RANKED[name][0](counts, weights, kish_share(profile), edges)
    return value, variance, int(counts.sum(axis=1).min())


def class_ranking(
    name: str, profile: MulticlassProfile, position: int, known: Known
) -> MetricValue:
    """Return how well a class's scores rank it against the rest, as ``measure_multiclass`` does."""
    n, method = int(by_label(profile, position)[0].sum()), _RANKED[name][1]
    parts = _ranked(name, profile, position, known.edges)
    if isinstance(parts, str):
        return MetricValue(None, n, method, reason=parts)
    value, variance, support = parts
    n_eff = n * kish_share(profile)
    return auc_on_logit(value, variance, n, n_eff, support, method=method)


def macro_ranking(name: str, profile: MulticlassProfile, known: Known) -> MetricValue:
    """Return the mean over the classes.

    Its error is the mean of theirs, an upper bound; of which rows with all scores side by side tell
    how much is left.
    """
    n, method = scored(profile), _RANKED[name][1]
    values, errors, supports = [], [], []
    for position in range(len(profile.names)):
        parts = _ranked(name, profile, position, known.edges)
        if isinstance(parts, str):
            return MetricValue(None, n, method, reason=parts)
        values.append(parts[0])
        errors.append(np.sqrt(parts[1]))
        supports.append(parts[2])
    if not values:
        return MetricValue(None, n, method, reason="no_scores" if profile.labelled else "no_rows")
    left, joint = None, known.joint
    if joint is not None and joint.names == profile.names:
        left = joint.error_left(name, profile.label_score_weights[:, 1].sum(axis=1))
    error = float(np.mean(errors)) * (1.0 if left is None else left)
    method += "" if left is not None else BOUND
    n_eff = n * kish_share(profile)
    value = float(np.mean(values))
    return auc_on_logit(value, error**2, n, n_eff, min(supports), method=method)


def scored(profile: MulticlassProfile) -> int:
    """Return the rows that have a score for every class."""
    return int(profile.label_score_counts[:1].sum())
