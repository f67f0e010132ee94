"""Performance without labels of a model of many classes: CBPE of each class against the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from service.detection.calibrator import Calibrator, fit_calibrator
from service.detection.estimation import METHOD, Estimate, estimate, to_value
from service.detection.expectation import HITS
from service.detection.metric_value import MetricValue
from service.detection.multiclass import Key
from service.profiles.profile import Floats

ESTIMATED_OF_CLASS = ("roc_auc", "precision", "recall", "f1")
ESTIMATED_OVERALL = ("roc_auc", "accuracy", "balanced_accuracy", "precision", "recall", "f1")
# What of each class makes a metric over all of them, where that is not of the same name.
OF_CLASS = {"accuracy": HITS, "balanced_accuracy": "recall"}


@dataclass(frozen=True, slots=True, eq=False)
class ManyCalibrators:
    """A calibrator of each class against the rest, in the order of the names.

    Their bootstrap replicates are of the same samples of rows, so that the b-th of all of them
    belong together.
    """

    names: tuple[str, ...]
    parts: tuple[Calibrator, ...]


def fit_many(
    names: Sequence[str],
    scores: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    predicted: ArrayLike | None = None,
) -> ManyCalibrators | None:
    """Fit P(class | its score) for every class on the labelled reference.

    Parameters
    ----------
    names
        The classes.
    scores
        Shape ``(n, k)``; rows with a NaN are left out.
    labels, predicted
        Positions among the names, shape ``(n,)``.
    weights
        Weights of the rows, shape ``(n,)``; 1 by default.

    Returns
    -------
    ManyCalibrators or None
        ``None`` if a class has fewer than 10 (effective) rows.

    References
    ----------
    B. Zadrozny and C. Elkan, 2002.  NannyML divides a row's probabilities by their sum, too; that
    needs rows instead of histograms, and moves no published estimate by more than .001.
    """
    score = np.asarray(scores, dtype=np.float64)
    known = np.isfinite(score).all(axis=1)
    score, truth = score[known], np.asarray(labels)[known]
    weight = None if weights is None else np.asarray(weights, float)[known]
    forecast = None if predicted is None else np.asarray(predicted)[known]
    parts = []
    for i in range(len(names)):
        own = None if forecast is None else forecast == i
        # One seed for all: the same rows are drawn for each class.
        part = fit_calibrator(score[:, i], truth == i, weight, own)
        if part is None:
            return None
        parts.append(part)
    return ManyCalibrators(tuple(names), tuple(parts)) if parts else None


def estimate_performance_of_many(
    calibrators: ManyCalibrators,
    rows: int,
    weights: Floats,
    representatives: Floats,
    squares: float | None = None,
) -> dict[Key, MetricValue]:
    """Estimate metrics with intervals, as ``estimate_performance`` does for two classes.

    Parameters
    ----------
    calibrators, weights, representatives
        As for ``estimate_many``.
    rows
        How many rows these are.
    squares
        Σw² over the rows; equal weights by default.

    Returns
    -------
    dict
        By name and class.
    """
    weight = float(weights[:1].sum())
    if not rows or not weight > 0 or len(weights) != len(calibrators.parts):
        keys = [(name, None) for name in ESTIMATED_OVERALL]
        return {key: MetricValue(None, 0, METHOD, reason="no_scores") for key in keys}
    n_eff = float(rows) if squares is None or squares <= 0 else weight * weight / squares
    found = estimate_many(calibrators, weights * (rows / weight), representatives, n_eff)
    return {key: to_value(key[0], part, rows, n_eff) for key, part in found.items()}


def estimate_many(
    calibrators: ManyCalibrators, weights: Floats, representatives: Floats, n_eff: float
) -> dict[Key, Estimate | str]:
    """Estimate metrics of rows by what their scores say, over all classes and of each.

    Parameters
    ----------
    calibrators
        Fitted on the reference.
    weights
        Σw by class, whether it is predicted, and bin of its score, shape ``(k, 2, n_bins)``.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.
    n_eff
        The rows' effective number (Kish).

    Returns
    -------
    dict
        By name and class.  The variance of a mean over classes is that of classes that are fully
        correlated, an upper bound, for histograms do not tell how the classes' scores go together.
    """
    names = (*ESTIMATED_OF_CLASS, HITS)
    classes = [
        estimate(part, weights[i], representatives, n_eff, names)
        for i, part in enumerate(calibrators.parts)
    ]
    found: dict[Key, Estimate | str] = {}
    for name in ESTIMATED_OVERALL:
        found[name, None] = combine(name, classes, n_eff)
        if name in ESTIMATED_OF_CLASS:
            for label, of_class in zip(calibrators.names, classes, strict=True):
                found[name, label] = of_class[name]
    return found


def combine(
    name: str, classes: Sequence[Mapping[str, Estimate | str]], n_eff: float
) -> Estimate | str:
    """Return the estimate over all classes: accuracy, or the mean over the classes."""
    kind = OF_CLASS.get(name, name)
    parts: list[Estimate] = []
    for of_class in classes:
        part = of_class[kind]
        if isinstance(part, str):
            return part
        parts.append(part)
    if name == "accuracy":
        return _accuracy(parts, n_eff)
    k = len(parts)
    return Estimate(
        value=sum(part.value for part in parts) / k,
        labels=float(np.mean([np.sqrt(part.labels) for part in parts])) ** 2,
        third=float(np.mean([np.cbrt(part.third) for part in parts])) ** 3,
        # A label that is another one is of one class less, and of one more.
        jump=2 * sum(part.jump for part in parts) / k**2,
        sample=float(np.mean([np.sqrt(part.sample) for part in parts])) ** 2,
        replicas=np.mean([part.replicas for part in parts], axis=0),
        support=min(part.support for part in parts),
    )


def _accuracy(hits: Sequence[Estimate], n_eff: float) -> Estimate:
    """Add up the classes' hits, which no two classes share."""
    value, labels = sum(part.value for part in hits), sum(part.labels for part in hits)
    share = min(max(value, 0.0), 1.0)
    return Estimate(
        value=value,
        labels=labels,
        third=sum(part.third for part in hits),
        jump=max(part.jump for part in hits),
        sample=max(share * (1 - share) / n_eff, labels),
        replicas=np.sum([part.replicas for part in hits], axis=0),
        support=n_eff,
    )
