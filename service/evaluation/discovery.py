"""Slices that nobody declared: found on a part of a window's errors, confirmed on the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

from service.detection.discovery import Losses, Slice, excess_score, find_worse_slices, sums_of
from service.detection.metric_value import FEWEST_IN_DENOMINATOR, MetricValue
from service.detection.metrics import HIGHER_IS_WORSE, RELATIVE, measure
from service.detection.predicates import Vocabulary, learn_vocabulary
from service.evaluation.losses import losses_of, metric_of
from service.evaluation.measurement import SMALLEST_GROUP, Direction, Measurement, Verdict
from service.evaluation.performance import PerformancePolicy, direction_of, threshold_of
from service.evaluation.significance import p_value_of_loss, worse_by
from service.profiles.arrays import LABEL, PREDICTION, WEIGHT
from service.profiles.binning import Binning
from service.profiles.build import profile_performance
from service.profiles.columns import Column

METHOD = "discovered"
TAGS = "tags."
SUMMARY = "discovered_slices"
# Searching is possible with fewer rows than confirming, most of all with fewer of the reference,
# whose losses are shrunk to their mean there.
SEARCHED = 0.35
SEARCHED_REFERENCE = 0.2
# The first slice that a search gives is the likeliest; each has its share of the level.
LEVELS = (0.6, 0.3, 0.1)
SPLITS = 2
# More rows of a reference than these add little but time.
MOST_REFERENCE = 20_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryPolicy:
    """How strictly found slices are judged: as performance, with a ``share``-th of its alpha."""

    performance: PerformancePolicy
    share: int = 1


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found: measurements, and the predicates of each slice by its name."""

    measurements: list[Measurement]
    slices: dict[str, Slice]


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """Half of the labelled rows of one side."""

    rows: pa.Table
    losses: Losses

    def part(self, rows: Mask) -> "_Half":
        return _Half(self.rows.filter(pa.array(rows)), self.losses.part(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Tested:
    """A slice on the half that it was not found on."""

    name: str
    chosen: Slice
    now: MetricValue
    before: MetricValue
    threshold: float | None
    p_value: float


def discover(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    binning: Binning,
    policy: DiscoveryPolicy,
) -> Discovery:
    """Find the slices in which the model got worse, more than in the rest, and confirm them.

    Reference and window are split at random, twice: a fifth and a third are searched, the rest
    confirms, and no row is searched twice.  The three slices of at most three predicates are
    searched whose loss (errors; squared errors of a regression) rose most against the same slice of
    the reference *and* against all other rows: a slice that was always hard is no news, and a loss
    everywhere is not a slice's.  One alerts if on the *other* rows its accuracy (or RMSE) is worse
    than its reference's by more than the tolerance, and than if it had changed like the rest, and
    both beyond chance.
    The level is divided between the splits, and among the slices of a search in advance.

    Parameters
    ----------
    reference, current
        Rows with features, ``prediction``, ``label``, and ``weight`` and ``tags.<name>`` where
        there are any; rows without a label have no part.
    columns
        The features.
    binning
        What the output is.
    policy
        The metric's tolerance, the level, and the fewest rows of a slice in both halves together.

    Returns
    -------
    Discovery
        Its measurements are ``discovered_slices``, their number, which is ``insufficient_data``
        where nothing could be searched; and the metric of each confirmed slice on the rows that
        confirm it, which its selection has not flattered.  ``p_value`` compares to ``alpha``.
    """
    vocabulary = vocabulary_of(reference, current, columns)
    sides = [_labelled(rows, vocabulary, binning) for rows in (reference, current)]
    n = len(sides[1].losses.loss)
    before = _split(sides[0], SEARCHED_REFERENCE, MOST_REFERENCE)
    now = _split(sides[1], SEARCHED, n)
    fewest = max(policy.performance.min_rows // 2, FEWEST_IN_DENOMINATOR)
    reason = _blocked(current, sides, vocabulary, policy, fewest)
    if reason is not None:
        return Discovery([_summary(None, n, len(sides[0].losses.loss), reason)], {})
    found: dict[str, Measurement] = {}
    slices: dict[str, Slice] = {}
    for (old, old_rest), (new, new_rest) in zip(before, now, strict=True):
        chosen = find_worse_slices(
            vocabulary, old.losses, new.losses, min_rows=fewest, most=len(LEVELS)
        )
        for level, tested in zip(
            LEVELS, _test(vocabulary, chosen, old_rest, new_rest, binning, policy), strict=False
        ):
            p_value = min(tested.p_value * SPLITS * policy.share / level, 1.0)
            measured = _measure(tested, p_value, metric_of(binning), policy.performance.alpha)
            known = found.get(tested.name)
            if measured is not None and (known is None or p_value < (known.p_value or 0.0)):
                found[tested.name] = measured
                slices[tested.name] = tested.chosen
    summary = _summary(len(found), n, len(sides[0].losses.loss), None)
    return Discovery([summary, *found.values()], slices)


def vocabulary_of(reference: pa.Table, current: pa.Table, columns: Sequence[Column]) -> Vocabulary:
    """Return the predicates on the features, and on the tags that both sides have."""
    names = [
        name
        for name in reference.column_names
        if not name.startswith(TAGS) or name in current.column_names
    ]
    return learn_vocabulary(reference.select(names), columns)


def _labelled(rows: pa.Table, vocabulary: Vocabulary, binning: Binning) -> _Half:
    loss = losses_of(rows, binning)
    known = np.isfinite(loss)
    rows = rows.filter(pa.array(known))
    own = [name for name in (LABEL, PREDICTION, WEIGHT) if name in rows.column_names]
    return _Half(rows.select(own), Losses(vocabulary.codes(rows), loss[known]))


def _split(side: _Half, searched: float, most: int) -> tuple[tuple[_Half, _Half], ...]:
    """Return two splits into rows to search and rows to confirm on; no row is searched twice."""
    n = len(side.losses.loss)
    order = np.random.default_rng(n).permutation(n)[:most]
    cut = round(len(order) * searched)
    return tuple(
        (_taken(side, turned[:cut]), _taken(side, turned[cut:])) for turned in (order, order[::-1])
    )


def _taken(side: _Half, chosen: NDArray[np.int64]) -> _Half:
    chosen = np.sort(chosen)
    return _Half(side.rows.take(pa.array(chosen)), side.losses.part(chosen))


def _blocked(
    current: pa.Table,
    sides: Sequence[_Half],
    vocabulary: Vocabulary,
    policy: DiscoveryPolicy,
    fewest: int,
) -> str | None:
    before, now = (len(side.losses.loss) for side in sides)
    if now < max(policy.performance.min_rows, 4 * fewest):
        return "few_rows"
    if now / current.num_rows < policy.performance.min_label_coverage:
        return "label_coverage"
    if before < 4 * fewest:
        return "reference_insufficient"
    return None if vocabulary.size else "no_features"


def _test(
    vocabulary: Vocabulary,
    chosen: Sequence[Slice],
    before: _Half,
    now: _Half,
    binning: Binning,
    policy: DiscoveryPolicy,
) -> Iterator[_Tested]:
    """Yield each slice with its p-value among the rows that are in none before it."""
    name = metric_of(binning)
    left_before, left_now = before, now
    for one in chosen:
        in_before, in_now = (
            vocabulary.mask(half.losses.codes, one) for half in (left_before, left_now)
        )
        if min(in_before.sum(), in_now.sum()) >= FEWEST_IN_DENOMINATOR:
            own = (
                _value(left_now.part(in_now), binning),
                _value(left_before.part(in_before), binning),
            )
            rest = [
                _value(half.part(~mask), binning)
                for half, mask in ((left_now, in_now), (left_before, in_before))
            ]
            score = excess_score(
                sums_of(left_now.losses, in_now), sums_of(left_before.losses, in_before), 1, 0.0
            )
            values = [_value(_in_slice(vocabulary, half, one), binning) for half in (now, before)]
            yield _Tested(
                name=vocabulary.describe(one),
                chosen=one,
                now=values[0],
                before=values[1],
                threshold=_threshold(name, values[1], rest, policy.performance.tolerance),
                p_value=max(p_value_of_loss(name, *own, []), float(ndtr(-float(score)))),
            )
        left_before, left_now = left_before.part(~in_before), left_now.part(~in_now)


def _threshold(
    name: str, before: MetricValue, rest: Sequence[MetricValue], tolerance: float
) -> float | None:
    """Return from where on it is a loss: of the slice itself, and had it changed like the rest."""
    rest_now, rest_before = (value.value for value in rest)
    if before.value is None or rest_now is None or rest_before is None:
        return None
    alike = before.value + rest_now - rest_before
    if name in RELATIVE and rest_before > 0:
        alike = before.value * rest_now / rest_before
    both = (before, replace(before, value=alike))
    known = [threshold_of(name, value, tolerance, None) for value in both]
    ends = [end for end in known if end is not None]
    return max(ends) if name in HIGHER_IS_WORSE else min(ends)


def _in_slice(vocabulary: Vocabulary, half: _Half, chosen: Slice) -> _Half:
    return half.part(vocabulary.mask(half.losses.codes, chosen))


def _value(half: _Half, binning: Binning) -> MetricValue:
    name = metric_of(binning)
    return measure(profile_performance(half.rows, binning), [name])[name, None]


def _measure(tested: _Tested, p_value: float, name: str, alpha: float) -> Measurement | None:
    """Return the measurement of a confirmed slice; what is not confirmed is nothing."""
    now, before, threshold = tested.now, tested.before, tested.threshold
    if now.value is None or threshold is None or p_value >= alpha:
        return None
    if now.n < SMALLEST_GROUP:
        return None
    if worse_by(name, now.value, threshold) <= 0:
        return None
    return Measurement(
        metric=name,
        slice=tested.name,
        value=now.value,
        n=now.n,
        method=METHOD,
        direction=direction_of(name),
        verdict=Verdict.ALERT,
        ci_low=now.ci_low,
        ci_high=now.ci_high,
        n_eff=now.n_eff,
        n_reference=before.n,
        reference_value=before.value,
        threshold=threshold,
        p_value=p_value,
    )


def _summary(found: int | None, n: int, n_reference: int, reason: str | None) -> Measurement:
    return Measurement(
        metric=SUMMARY,
        value=found,
        n=n,
        n_reference=n_reference,
        method=METHOD,
        direction=Direction.HIGHER_IS_WORSE,
        verdict=Verdict.OK if reason is None else Verdict.INSUFFICIENT_DATA,
        reason=reason,
    )
