"""What the labels of rows are against what their scores promised: P(label | score)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtrc, gammaincc, ndtr, stdtr

from service.detection.calibrator import Calibrator
from service.detection.estimation import Estimate, estimate
from service.detection.expectation import ESTIMATED, realised_values
from service.profiles.profile import Counts, Floats

# A variance from B bootstrap replicates is that uncertain, and no more is known of it.
FEWEST_REPLICAS = 2


@dataclass(frozen=True, slots=True, eq=False)
class LabelledScores:
    """Labelled rows with a score, by what the label is, what was predicted and the score's bin.

    ``counts`` and ``weights`` (Σw) have the shape ``(2, 2, n_bins)``, the class in question last;
    ``n_eff`` is the rows' effective number (Kish).
    """

    counts: Counts
    weights: Floats
    n_eff: float

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Surprise:
    """A realised metric less what the scores of the very same rows promised.

    ``labels`` is the variance of ``value`` that the labels' chance causes, ``third`` its third
    central moment and ``jump`` what a label typically adds to it; ``fit`` is the variance of the
    promise, from ``replicas`` bootstrap samples of the reference.  ``support`` is the expected
    number of rows of the smallest group that the metric needs.
    """

    value: float
    realised: float
    promised: float
    labels: float
    third: float
    jump: float
    fit: float
    replicas: int
    support: float


def surprise(realised: float, estimated: Estimate) -> Surprise:
    """Return what labels show against what scores promised."""
    return Surprise(
        realised - estimated.value,
        realised,
        estimated.value,
        estimated.labels,
        estimated.third,
        estimated.jump,
        estimated.fit,
        int(np.isfinite(estimated.replicas).sum()),
        estimated.support,
    )


def measure_surprises(
    calibrator: Calibrator,
    scores: LabelledScores,
    representatives: Floats,
    names: Sequence[str] = ESTIMATED,
) -> dict[str, Surprise | str]:
    """Compare what labelled rows show with what their scores promised.

    Parameters
    ----------
    calibrator
        Fitted on the reference.
    scores
        The labelled rows.
    representatives
        The score that stands for each bin, shape ``(n_bins,)``.
    names
        Of ``ESTIMATED``.

    Returns
    -------
    dict of str to Surprise or str
        By name; the reason where the rows have no such metric.  The scores are given, so that
        neither their noise nor their shift counts: only labels can surprise.
    """
    if not scores.rows or not scores.weights.sum() > 0:
        return dict.fromkeys(names, "no_scores")
    # Only proportions matter, and squares of very small weights would vanish.
    weights = scores.weights * (scores.rows / scores.weights.sum())
    promised = estimate(calibrator, weights.sum(axis=0), representatives, scores.n_eff, names)
    realised = realised_values(weights.sum(axis=1), weights.sum(axis=2))
    found: dict[str, Surprise | str] = {}
    for name, estimated in promised.items():
        if isinstance(estimated, str):
            found[name] = estimated
        elif name not in realised:
            found[name] = "single_class" if name in {"roc_auc", "recall"} else "no_positives"
        else:
            found[name] = surprise(realised[name], estimated)
    return found


def mirrored(found: Surprise) -> Surprise:
    """Return the surprise with gains for losses."""
    return replace(found, value=-found.value, third=-found.third)


def spread_of(between: float, chunks: int) -> float:
    """Return the variance of a window that is one more chunk, whose mean is known of the others."""
    return between * (1 + 1 / chunks) if chunks else 0.0


def tail_of_loss(found: Surprise, between: float = 0.0, chunks: int = 0) -> float:
    """Return the probability of so low a realised value if the scores still mean the same.

    Parameters
    ----------
    found
        What labels show against what scores promised.
    between
        The variance of such surprises between the reference's chunks, beyond chance.
    chunks
        From how many chunks it is known; 0 where these agree.

    Returns
    -------
    float
        In [0, 1]: the largest of the tails of Pearson's type III distribution (labels are few where
        errors are rare, hence skewed), and of Student's t with the degrees of freedom that the
        bootstrap and the chunks leave (Satterthwaite).

    References
    ----------
    F. E. Satterthwaite, "An approximate distribution of estimates of variance components", 1946.
    """
    spread = spread_of(between, chunks)
    variance = found.labels + found.fit + spread
    if variance <= 0:
        return 1.0 if found.value >= 0 else 0.0
    # Labels come one by one: half of what one of them changes is within chance.
    loss = max(-found.value - found.jump / 2, 0.0) if found.value < 0 else -found.value
    z = loss / float(np.sqrt(variance))
    parts = [(found.fit, found.replicas - 1), (spread, chunks - 1)]
    doubt = sum(part * part / freedom for part, freedom in parts if freedom > 0 and part > 0)
    tail = float(stdtr(variance**2 / doubt, -z)) if doubt > 0 else float(ndtr(-z))
    skewness = -found.third / float(variance**1.5)
    if skewness > SMALLEST_SKEWNESS:
        shape = 4 / skewness**2
        tail = max(tail, float(gammaincc(shape, max(shape + z * np.sqrt(shape), 0.0))))
    return min(tail, 1.0)


SMALLEST_SKEWNESS = 1e-3


def between_chunks(chunks: Sequence[Surprise]) -> tuple[float, int]:
    """Return the variance of surprises between chunks of a reference, and how many there are.

    Parameters
    ----------
    chunks
        Of one metric.

    Returns
    -------
    tuple of float and int
        Zeros unless the chunks disagree significantly (5 %), for then a plain estimate would cost
        power when nothing is wrong.

    References
    ----------
    R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", 1986.
    """
    usable = [chunk for chunk in chunks if chunk.labels > 0]
    if len(usable) < FEWEST_CHUNKS:
        return 0.0, 0
    values = np.array([chunk.value for chunk in usable])
    precision = 1 / np.array([chunk.labels for chunk in usable])
    center = float((precision * values).sum() / precision.sum())
    heterogeneity = float((precision * (values - center) ** 2).sum())
    freedom = len(usable) - 1
    if chdtrc(freedom, heterogeneity) >= CHUNK_ALPHA:
        return 0.0, 0
    scale = float(precision.sum() - (precision**2).sum() / precision.sum())
    return max((heterogeneity - freedom) / scale, 0.0), len(usable)


FEWEST_CHUNKS = 3
CHUNK_ALPHA = 0.05
