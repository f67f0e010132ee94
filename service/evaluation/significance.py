"""The probability of a loss of performance without a change."""

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc, logit, ndtr, stdtr

from service.detection.estimation import METHOD as ESTIMATE
from service.detection.metric_value import FEWEST_IN_DENOMINATOR, MetricValue
from service.detection.metrics import HIGHER_IS_WORSE, SIGNED
from service.detection.performance import ON_LOGIT, PROPORTIONS

FEWEST_CHUNKS = 3
# Chunks that disagree less than this are taken for the same population.
CHUNK_ALPHA = 0.05
LARGEST = 1 - 1e-12
KISH_TOLERANCE = 1e-9
# Proportions, and F1, which rises with the share of hits among rows that are, or are predicted, of
# the class: at n = 100 a z-test of it errs 2.3 times as often as it says.
EXACT = PROPORTIONS | {"f1"}


def worse_by(name: str, value: float, than: float | None) -> float:
    """Return by how much a value is worse than another; negative if it is better."""
    difference = 0.0 if than is None else than - value
    return -difference if name in HIGHER_IS_WORSE else difference


def sidak(p_value: float, tests: int) -> float:
    """Return the probability that the smallest of as many independent p-values is as small.

    Examples
    --------
    >>> round(sidak(0.01, 3), 6)
    0.029701
    """
    return 1.0 if p_value >= 1 else float(-np.expm1(tests * np.log1p(-p_value)))


def p_value_of_loss(
    name: str, now: MetricValue, before: MetricValue, chunks: Sequence[MetricValue]
) -> float:
    """Return the probability of so much worse a value without a change.

    One-sided, but for a bias, which has no better side.

    Parameters
    ----------
    name
        The metric; it says which way is worse.
    now, before
        Both with a value, and with ``support`` above 0.
    chunks
        The same metric of the reference's pieces.

    Returns
    -------
    float
        In [0, 1].  Fisher's exact test for proportions; else a z-test whose noise of either side is
        the larger of what the window and what the reference say about that many rows: a reference
        without its rare large errors looks both better and surer than it is.  Where the
        reference's chunks disagree significantly, their variance is added and Student's t replaces
        the normal; Fisher's p, which knows nothing of it, then is a lower bound.
    """
    exact = now.successes is not None and before.successes is not None and name in EXACT
    between = _between_chunks(before, chunks)
    p_value = _fisher(name, now, before) if exact else 0.0
    if exact and between is None:
        return p_value
    loss = worse_by(name, now.position, before.position)
    sides = 1
    if name in SIGNED:
        loss, sides = abs(loss), 2
    variance = _noise(now, before) + _noise(before, now)
    if between is not None:
        variance += between * (1 + 1 / len(chunks))
    if variance <= 0:
        return max(p_value, 0.0 if loss > 0 else 1.0)
    z = loss / float(np.sqrt(variance))
    # A variance from few chunks is itself uncertain, hence Student's t.
    tail = ndtr(-z) if between is None else stdtr(len(chunks) - 1, -z)
    return max(p_value, min(sides * float(tail), 1.0))


def _noise(value: MetricValue, other: MetricValue) -> float:
    """Return the variance of a value: its own, or what the other's says of that many rows."""
    # The error of an estimate is its calibrator's, too, which no number of rows lessens.
    if other.method == ESTIMATE:
        return value.error**2
    return max(value.error**2, other.error**2 * other.support / value.support)


def p_value_beyond(name: str, now: MetricValue, limit: float) -> float:
    """Return the one-sided probability of so bad a value where the truth is at the limit.

    Parameters
    ----------
    name
        The metric; it says which way is worse.
    now
        With a value, and with ``support`` above 0.
    limit
        A floor, or a ceiling where higher is worse, on the metric's own scale.

    Returns
    -------
    float
        In [0, 1]: the exact binomial tail for proportions (on Kish's rows if they weigh), else that
        of the normal distribution on the scale of the test.

    Examples
    --------
    >>> value = MetricValue(0.8, 10, "wilson", n_eff=10, support=10, successes=8)
    >>> round(p_value_beyond("recall", value, 0.9), 4)  # 1 - .9^10 - 10 .1 .9^9
    0.2639
    >>> round(p_value_beyond("false_positive_rate", value, 0.9), 4)  # .9^10 + 10 .1 .9^9 + 45 ...
    0.9298
    """
    if now.successes is not None and name in EXACT:
        from scipy.stats import binom

        successes, n = _counts(name, now)
        share = _share(name, min(max(limit, 0.0), 1.0))
        worse = name in HIGHER_IS_WORSE
        tail = binom.sf(successes - 1, n, share) if worse else binom.cdf(successes, n, share)
        return min(max(float(tail), 0.0), 1.0)
    at = _on_scale(name, limit)
    beyond = worse_by(name, now.position, at)
    if now.error <= 0:
        return 0.0 if beyond > 0 else 1.0
    return float(ndtr(-beyond / now.error))


def _on_scale(name: str, value: float) -> float:
    """Return a value where its metric is tested."""
    if name in ON_LOGIT:
        return float(logit(max(value, 0.0)))
    if name == "matthews_corrcoef":
        return float(np.arctanh(min(max(value, -LARGEST), LARGEST)))
    return value


def _fisher(name: str, now: MetricValue, before: MetricValue) -> float:
    """Return Fisher's exact one-sided p, on rows, or on Kish's effective rows if they weigh."""
    from scipy.stats import hypergeom

    (k_now, n_now), (k_before, n_before) = _counts(name, now), _counts(name, before)
    # A frozen distribution would take ten times as long, which counts with hundreds of slices.
    sizes = (n_now + n_before, k_now + k_before, n_now)
    worse = name in HIGHER_IS_WORSE
    tail = hypergeom.sf(k_now - 1, *sizes) if worse else hypergeom.cdf(k_now, *sizes)
    return min(max(float(tail), 0.0), 1.0)


def _share(name: str, value: float) -> float:
    """Return the proportion that a value stands for: of F1 the hits among rows of either kind."""
    return value / (2 - value) if name == "f1" else value


def _counts(name: str, value: MetricValue) -> tuple[int, int]:
    if value.value is None or value.successes is None:
        return 0, 0
    if abs(value.n_eff - value.n) <= KISH_TOLERANCE * value.n:
        return value.successes, value.n
    n = max(round(value.n_eff), 1)
    return round(_share(name, value.value) * n), n


def _between_chunks(before: MetricValue, chunks: Sequence[MetricValue]) -> float | None:
    """Return the reference's variance between its chunks, on the test's scale, if significant.

    References
    ----------
    R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", 1986.
    """
    usable = [c for c in chunks if c.value is not None and c.support >= FEWEST_IN_DENOMINATOR]
    if len(usable) < FEWEST_CHUNKS or before.error <= 0:
        return None
    positions = np.array([chunk.position for chunk in usable])
    # The pooled error, scaled: a chunk's own is smallest exactly where it happens to do well.
    precision = np.array([c.support for c in usable]) / (before.error**2 * before.support)
    center = (precision * positions).sum() / precision.sum()
    heterogeneity = float((precision * (positions - center) ** 2).sum())
    freedom = len(usable) - 1
    if chdtrc(freedom, heterogeneity) >= CHUNK_ALPHA:
        return None
    scale = precision.sum() - (precision**2).sum() / precision.sum()
    return max((heterogeneity - freedom) / float(scale), 0.0)
