"""How far the shares of positives are from the calibrated probabilities, by groups of score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc

from service.detection.calibrator import Calibrator
from service.detection.concept import (
    CHUNK_ALPHA,
    FEWEST_CHUNKS,
    LabelledScores,
    Surprise,
    mirrored,
    spread_of,
    tail_of_loss,
)
from service.profiles.profile import Counts, Floats

GROUPS = 10
# Σp(1 - p) of a group: with less, its share of positives is no normal number.
LEAST_DOUBT = 10.0
# The positives of a single group are tested as the few that they are.
LEAST_DOUBT_IN_ALL = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Miscalibration:
    """Positives less those that the scores promise, by group of score.

    ``differences`` are rows, shape ``(g,)``, ``sizes`` the groups' rows and ``covariance``,
    ``(g, g)``, that of the differences if the scores still mean the same: the labels' chance and
    the calibrator's.  ``labels`` is its part by the labels alone, shape ``(g,)``, and ``third`` the
    third central moment of all positives together; ``replicas`` are bootstrap samples.
    """

    differences: Floats
    sizes: Floats
    covariance: Floats
    labels: Floats
    third: float
    replicas: int
    n_eff: float

    @property
    def excess(self) -> float:
        """Return the mean difference of share and probability, beyond what chance makes of it.

        Weighted by the groups' rows, in [0, 1].
        """
        expected = np.sqrt(2 / np.pi * np.diag(self.covariance)).sum()
        total = float(self.sizes.sum())
        return min(max(float(np.abs(self.differences).sum() - expected) / total, 0.0), 1.0)


def measure_miscalibration(
    calibrator: Calibrator,
    reference: Counts,
    scores: LabelledScores,
    representatives: Floats,
) -> Miscalibration | None:
    """Compare labels with calibrated probabilities, in about ten groups of score.

    Parameters
    ----------
    calibrator
        Fitted on the reference.
    reference
        The reference's rows by score bin, shape ``(n_bins,)``; its quantiles part the groups.
    scores
        The labelled rows.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.

    Returns
    -------
    Miscalibration or None
        ``None`` if Σp(1 - p) is less than 3.  Neighbouring groups are joined until it reaches 10,
        which asks for nothing but the scores.

    References
    ----------
    D. W. Hosmer and S. Lemeshow, "Goodness of fit tests for the multiple logistic regression
    model", 1980.
    """
    total = float(scores.weights.sum())
    if not scores.rows or not total > 0:
        return None
    weights = scores.weights.sum(axis=1) * (scores.n_eff / total)
    rows = weights.sum(axis=0)
    probabilities = calibrator.calibrate(representatives)
    doubt = rows * probabilities * (1 - probabilities)
    groups = _group(reference, doubt)
    if groups is None:
        return None
    size = int(groups.max()) + 1

    def by_group(values: Floats) -> Floats:
        return np.bincount(groups, values, size).astype(np.float64, copy=False)

    replicas = np.array(
        [
            by_group(rows * np.interp(representatives, calibrator.scores, replicate))
            for replicate in calibrator.replicates
        ]
    )
    labels, sizes = by_group(doubt), by_group(rows)
    rates, known = by_group(rows * probabilities) / sizes, by_group(reference.astype(float))
    # Samples of a reference without positives at low scores never tell how many there may be.
    least = sizes**2 * (rates * (1 - rates) + 1 / (known + 1)) / (known + 1)
    return Miscalibration(
        differences=by_group(weights[1] - rows * probabilities),
        sizes=sizes,
        covariance=np.diag(labels) + _covariance(replicas, least),
        labels=labels,
        third=float((doubt * (1 - 2 * probabilities)).sum()),
        replicas=len(replicas),
        n_eff=scores.n_eff,
    )


def _covariance(replicas: Floats, least: Floats) -> Floats:
    """Return how the groups' sums vary with the calibrator; none of them less than ``least``."""
    size = len(least)
    if not len(replicas[1:]):
        return np.zeros((size, size))
    found = np.cov(replicas, rowvar=False).reshape(size, size)
    np.fill_diagonal(found, np.maximum(np.diag(found), least))
    return found


def _group(reference: Counts, doubt: Floats) -> NDArray[np.intp] | None:
    """Return each bin's group; ``None`` if all the rows together leave too little doubt."""
    if doubt.sum() < LEAST_DOUBT_IN_ALL:
        return None
    mass = reference.astype(np.float64)
    middle = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1.0)
    fine = np.minimum((middle * GROUPS).astype(np.intp), GROUPS - 1)
    held = np.bincount(fine, doubt, GROUPS)
    joined, group, open_doubt = np.zeros(GROUPS, np.intp), 0, 0.0
    for position in range(GROUPS):
        joined[position] = group
        open_doubt += held[position]
        if open_doubt >= LEAST_DOUBT and held[position + 1 :].sum() >= LEAST_DOUBT:
            group, open_doubt = group + 1, 0.0
    return joined[fine]


def tail_of_miscalibration(found: Miscalibration, between: float = 0.0, chunks: int = 0) -> float:
    """Return the probability of such differences if the scores still mean the same.

    Parameters
    ----------
    found
        Of the window.
    between
        Variance of the share of positives between the reference's chunks, beyond chance.
    chunks
        From how many chunks it is known; 0 where these agree.

    Returns
    -------
    float
        In [0, 1]: of Σ(difference / error)² under a scaled χ² with the same mean and variance
        (Satterthwaite), since groups share their calibrator; with chunks, under F.  Of a single
        group, twice the smaller tail of its positives.
    """
    if len(found.labels) == 1:
        return _tail_of_one(found, between * float(found.sizes[0]) ** 2, chunks)
    covariance = found.covariance
    if chunks:
        # Whether groups move together is not known; that they do has the heavier tail.
        covariance = covariance + spread_of(between, chunks) * np.outer(found.sizes, found.sizes)
    error = np.sqrt(np.diag(covariance))
    if not (error > 0).all():
        return 1.0
    statistic = float(((found.differences / error) ** 2).sum())
    correlation = covariance / np.outer(error, error)
    scale = float((correlation**2).sum() / len(error))
    freedom = len(error) / scale
    if chunks > 1:
        return float(fdtrc(freedom, chunks - 1, statistic / len(error)))
    return float(chdtrc(freedom, statistic / scale))


def _tail_of_one(found: Miscalibration, between: float, chunks: int) -> float:
    labels = float(found.labels[0])
    own = Surprise(
        value=float(found.differences[0]),
        realised=0.0,
        promised=0.0,
        labels=labels,
        third=found.third,
        jump=1.0,
        fit=float(found.covariance[0, 0]) - labels,
        replicas=found.replicas,
        support=labels,
    )
    tails = (tail_of_loss(each, between, chunks) for each in (own, mirrored(own)))
    return min(2 * min(tails), 1.0)


def between_miscalibrated(chunks: Sequence[Miscalibration]) -> tuple[float, int]:
    """Return the variance of the share of positives between chunks, and how many there are.

    Zeros unless the chunks differ significantly (5 %) from what the calibrator promises of them.
    """
    usable = [chunk for chunk in chunks if (chunk.labels > 0).all()]
    if len(usable) < FEWEST_CHUNKS:
        return 0.0, 0
    statistic = sum(float((c.differences**2 / c.labels).sum()) for c in usable)
    freedom = sum(len(chunk.labels) for chunk in usable)
    if chdtrc(freedom, statistic) >= CHUNK_ALPHA:
        return 0.0, 0
    scale = sum(float((c.sizes**2 / c.labels).sum()) for c in usable)
    return (statistic - freedom) / scale, len(usable)
