"""What the labels of many classes are against what their scores promised."""

from collections.abc import Sequence

from service.detection.concept import LabelledScores, Surprise, surprise
from service.detection.estimation import Estimate, estimate
from service.detection.estimation_multiclass import (
    ESTIMATED_OF_CLASS,
    OF_CLASS,
    ManyCalibrators,
    combine,
)
from service.detection.expectation import HITS, realised_values
from service.profiles.profile import Floats


def measure_surprises_of_many(
    calibrators: ManyCalibrators,
    scores: Sequence[LabelledScores],
    representatives: Floats,
    names: Sequence[str],
) -> dict[str, Surprise | str]:
    """Compare what labelled rows show with what their scores promised, over all classes.

    Parameters
    ----------
    calibrators
        Fitted on the reference.
    scores
        The labelled rows by what they are to each class.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.
    names
        Of ``ESTIMATED_OVERALL``.

    Returns
    -------
    dict of str to Surprise or str
        By name; the reason where the rows have no such metric.  The variance of a mean over classes
        is an upper bound, as for ``estimate_many``.
    """
    if not scores or not scores[0].rows or not scores[0].weights.sum() > 0:
        return dict.fromkeys(names, "no_scores")
    n_eff = scores[0].n_eff
    kinds = (*ESTIMATED_OF_CLASS, HITS)
    promised: list[dict[str, Estimate | str]] = []
    realised: list[dict[str, float]] = []
    for part, own in zip(calibrators.parts, scores, strict=True):
        weights = own.weights * (own.rows / own.weights.sum())
        promised.append(estimate(part, weights.sum(axis=0), representatives, n_eff, kinds))
        realised.append(realised_values(weights.sum(axis=1), weights.sum(axis=2)))
    found: dict[str, Surprise | str] = {}
    for name in names:
        kind = OF_CLASS.get(name, name)
        together = combine(name, promised, n_eff)
        values = [of_class.get(kind) for of_class in realised]
        known = [value for value in values if value is not None]
        if isinstance(together, str):
            found[name] = together
        elif len(known) < len(values):
            found[name] = "missing_class"
        else:
            total = sum(known)
            found[name] = surprise(total if kind == HITS else total / len(known), together)
    return found
