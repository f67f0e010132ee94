"""How predictions are distributed: their share in a few buckets that every window has alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.profiles.arrays import PREDICTION, SCORE
from service.profiles.binning import Binning, NumericBins
from service.profiles.columns import Classes, ManyClasses
from service.profiles.profile import FeatureProfile

PREDICTION_SHARE = "prediction_share"
MOST_BUCKETS = 8

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one bucket in a window and in the reference, and the rows that they are of."""

    bucket: str
    value: float
    n: int
    reference_value: float
    n_reference: int


def prediction_shares(
    binning: Binning, reference: FeatureProfile, current: FeatureProfile
) -> list[Share]:
    """Measure in which buckets the scores lie, else the values of a regression, else the classes.

    Parameters
    ----------
    binning
        Its edges alone make the buckets, so that those of successive windows are the same.
    reference, current
        The two windows.

    Returns
    -------
    list of Share
        In the order of their values; empty where either window has no predictions, and of many
        classes, whose ``selection_rate`` says it.
    """
    output = binning.output
    if isinstance(output, ManyClasses):
        return []
    name = SCORE if isinstance(output, Classes) else PREDICTION
    bins = binning.score_bins if isinstance(output, Classes) else binning.columns.get(PREDICTION)
    found = _counted(name, reference, current)
    if found is not None and isinstance(bins, NumericBins):
        buckets, groups = value_buckets(bins)
        counts = [np.bincount(groups, side, len(buckets)) for side in found]
        return list(_shares(buckets, *counts))
    found = _counted(PREDICTION, reference, current)
    if found is not None and isinstance(output, Classes):
        return list(_shares([output.negative, output.positive], *(side[:2] for side in found)))
    return []


def value_buckets(bins: NumericBins) -> tuple[list[str], NDArray[np.intp]]:
    """Return the names of at most eight buckets, and to which of them each bin belongs.

    They are neighbouring fine bins, or neighbouring atoms where there is nothing between these.

    Examples
    --------
    >>> bins = NumericBins(np.array([0.0, 0.5, 1.0]), np.array([0.7]), 0.0, 1.0)
    >>> value_buckets(bins)
    (['1 (< 0.5)', '2 (>= 0.5)'], array([0, 0, 1, 1, 1]))
    """
    inner = bins.edges[1:-1]
    if not len(inner):
        inner = (bins.atoms[:-1] + bins.atoms[1:]) / 2
    step = -(-(len(inner) + 1) // MOST_BUCKETS)
    cuts = inner[step - 1 :: step]
    middles = (bins.edges[:-1] + bins.edges[1:]) / 2
    places = np.concatenate(([-np.inf], middles, [np.inf], bins.atoms))
    return list(_named(cuts)), np.searchsorted(cuts, places, side="right")


def _named(cuts: NDArray[np.float64]) -> Iterator[str]:
    # Numbered, because names are sorted as texts where they are shown.
    edges = [None, *cuts.tolist(), None]
    for rank, (low, high) in enumerate(pairwise(edges), 1):
        if low is None:
            yield f"{rank} (all)" if high is None else f"{rank} (< {high:.3g})"
        else:
            ends = f">= {low:.3g}" if high is None else f"{low:.3g} to {high:.3g}"
            yield f"{rank} ({ends})"


def _counted(
    name: str, reference: FeatureProfile, current: FeatureProfile
) -> tuple[Counts, Counts] | None:
    """Return the rows per bin of both windows, if both have any."""
    before, after = reference.columns.get(name), current.columns.get(name)
    if before is None or after is None or not (before.counts.sum() and after.counts.sum()):
        return None
    return before.counts, after.counts


def _shares(buckets: list[str], before: Counts, after: Counts) -> Iterator[Share]:
    n_reference, n = int(before.sum()), int(after.sum())
    if not (n_reference and n):
        return
    for bucket, was, is_ in zip(buckets, before.tolist(), after.tolist(), strict=True):
        yield Share(bucket, is_ / n, n, was / n_reference, n_reference)
