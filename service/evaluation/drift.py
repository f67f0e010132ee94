"""Judge the drift of every column of a window."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from service.detection.comparison import Comparison, Test, compare_column
from service.detection.methods import METHODS, DriftMethod, Sample
from service.detection.power import detectable_effect
from service.detection.rare import RareCell
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.multiplicity import sidak_adjust, sidak_level
from service.evaluation.rare import describe_cell, judge_rare
from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.columns import ATTRIBUTIONS, Quantity
from service.profiles.profile import FeatureProfile, Performance, RegressionProfile

SCORE = "score"
LABEL = "label"
SMALLEST_DEVIATION = 1e-9
# A class that goes from 5 % to 9 % is half as far as what matters of a feature, and matters.
LABEL_EFFECT = 0.5


@dataclass(frozen=True, slots=True)
class ColumnDriftPolicy:
    """What one column does differently; ``None`` follows the model's policy."""

    method: str | None = None
    min_effect: float | None = None
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """When drift is an alert.

    ``alpha`` is the probability of any drift alert in a window without drift, over all columns.
    ``method`` scores every column that can have it; ``ks`` and ``wasserstein`` need numbers, and
    categories get ``total_variation`` in their stead, as do constants instead of ``wasserstein``.
    ``min_effect`` is the smallest score that matters, whatever the method (``None``: the method's
    own), and ``rare_ratio`` the factor by which the share of a rare category has to change.
    Unless it is a column's own, ``min_effect`` is less for features of more than average
    ``importance``, and more for others.
    """

    method: str = "jensen_shannon"
    alpha: float = 0.01
    min_effect: float | None = None
    columns: Mapping[str, ColumnDriftPolicy] = field(default_factory=dict)
    min_rows: int = 100
    rare_ratio: float = 2.0
    importance: Importance = ALIKE


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One column of both windows, and how it is to be judged."""

    name: str
    min_effect: float
    compared: Comparison
    blocked: str | None = None

    @property
    def method(self) -> DriftMethod:
        """Return the method that made the score."""
        return self.compared.method

    def tests(self, rows: int) -> tuple[Test, ...]:
        """Return the tests that may alert, none if either window has too few rows."""
        judged = self.blocked is None and self.compared.has(rows)
        return self.compared.tests if judged else ()


def judge_drift(
    binning: Binning,
    reference: FeatureProfile,
    chunks: Sequence[FeatureProfile],
    current: FeatureProfile,
    policy: DriftPolicy,
    share: float = 1.0,
) -> list[Measurement]:
    """Judge whether any column of a window moved, by more than chance and by enough to matter.

    Half of ``alpha`` goes to the distributions (Šidák over the tests of all columns), half to the
    rare categories (Tarone over all cells of all columns).

    Parameters
    ----------
    binning
        The edges under which all profiles were made.
    reference, current
        The two windows.
    chunks
        The reference in pieces of about the window's length, for its own variability; may be
        empty, which takes the reference's rows as independent.
    policy
        Methods, levels and minimum effects.
    share
        Which part of ``alpha`` is spent here, in (0, 1]; the label's drift has the rest.

    Returns
    -------
    list[Measurement]
        ``drift`` of each column of the binning that is not ignored, then of the score;
        ``attribution_drift`` of a feature where the column is what it contributed.  A
        ``p_value`` is adjusted for all of this and compares to ``alpha``; ``threshold`` is the
        larger of the minimum effect and the score at which chance is left behind at this size;
        ``detectable_effect`` is the score from which on 80 % of such windows would alert.

    Raises
    ------
    KeyError
        If the policy names an unknown method.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from service.profiles.build import profile_features
    >>> from service.profiles.columns import Classes, Column, Kind
    >>> from service.profiles.freeze import freeze_binning
    >>> columns = [Column("plan", Kind.CATEGORICAL)]
    >>> old = pa.table({"plan": ["basic", "gold"] * 100})
    >>> new = pa.table({"plan": ["basic", "gold", "gold", "gold"] * 50})
    >>> binning = freeze_binning(old, columns, Classes("0", "1"))
    >>> before, after = (profile_features(rows, columns, binning) for rows in (old, new))
    >>> plan = judge_drift(binning, before, [], after, DriftPolicy())[0]
    >>> plan.subject, plan.verdict.value, round(plan.value, 3)
    ('plan', 'alert', 0.221)
    """
    columns = _compare(binning, reference, chunks, current, policy)
    return _judge(columns, policy, share)


def label_share(binning: Binning, reference: Performance, policy: DriftPolicy) -> float:
    """Return which part of ``alpha`` the label's drift has: that of one column among all.

    It depends on the reference alone, so that labels that arrive change no feature's verdict.
    Labels that are numbers have none: their drift is not judged.
    """
    ignored = policy.columns.get(LABEL, ColumnDriftPolicy()).ignore
    if ignored or not reference.labelled or isinstance(reference, RegressionProfile):
        return 0.0
    return 1 / (1 + len(_judged_bins(binning, policy)))


def judge_label_drift(
    binning: Binning,
    reference: Performance,
    chunks: Sequence[Performance],
    current: Performance,
    rows: int,
    policy: DriftPolicy,
    min_label_coverage: float,
    withheld: str | None = None,
) -> list[Measurement]:
    """Judge whether the classes of the labels have other shares than in the reference.

    Parameters
    ----------
    binning
        Whose classes the profiles counted.
    reference, chunks, current
        As for :func:`judge_drift`, of the labelled rows.
    rows
        All the window's rows, labelled or not.
    policy
        The label's own under ``label``.
    min_label_coverage
        The share of the window's rows that needs a label: those that arrive first need not be
        like the others.
    withheld
        Why no verdict may rest on this window's labels.

    Returns
    -------
    list[Measurement]
        ``drift`` of ``label``; nothing if the reference has no labels, if they are numbers, or if
        the label is ignored.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from service.profiles.build import profile_performance
    >>> from service.profiles.columns import Classes
    >>> from service.profiles.freeze import freeze_binning
    >>> windows = [pa.table({"label": ["0", "1"] * 100, "prediction": ["0"] * 200})]
    >>> windows.append(pa.table({"label": ["0", "1", "1", "1"] * 50, "prediction": ["0"] * 200}))
    >>> binning = freeze_binning(windows[0], [], Classes("0", "1"))
    >>> old, new = (profile_performance(rows, binning) for rows in windows)
    >>> [label] = judge_label_drift(binning, old, [], new, 200, DriftPolicy(), 0.5)
    >>> label.verdict.value, round(label.value, 3)
    ('alert', 0.221)
    """
    share = label_share(binning, reference, policy)
    if not share or isinstance(binning.output, Quantity):
        return []
    bins = CategoricalBins(binning.output.names, frozenset())
    before, after = Sample(_label_counts(reference)), Sample(_label_counts(current))
    pieces = [_label_counts(chunk) for chunk in chunks]
    column = _column(
        LABEL, _own(LABEL, policy), policy, partial(compare_column, bins, before, pieces, after)
    )
    coverage = current.labelled / rows if rows else 0.0
    if withheld is not None:
        column = replace(column, blocked=withheld)
    elif coverage < min_label_coverage:
        blocked = f"{coverage:.0%} of the rows have a label, fewer than {min_label_coverage:.0%}"
        column = replace(column, blocked=blocked.replace("%", " %"))
    return _judge([column], policy, share)


def drift_warnings(reference: FeatureProfile, current: FeatureProfile) -> list[str]:
    """Say what weakens the drift verdicts of this window without changing them."""
    if reference.rows >= current.rows:
        return []
    sizes = (
        f"the reference ({reference.rows} rows) is smaller than the window ({current.rows} rows)"
    )
    return [f"{sizes}: its own chance deviations repeat in every window"]


def _compare(
    binning: Binning,
    reference: FeatureProfile,
    chunks: Sequence[FeatureProfile],
    current: FeatureProfile,
    policy: DriftPolicy,
) -> list[_Column]:
    columns, parts = [], binning.parts
    for name, bins in _judged_bins(binning, policy).items():
        pieces = [_sample(chunk, name, bins).rows for chunk in chunks]
        before, after = _sample(reference, name, bins), _sample(current, name, bins)
        compare = partial(compare_column, bins, before, pieces, after)
        columns.append(_column(name, _own(name, policy, parts.get(name)), policy, compare))
    return columns


def _judged_bins(binning: Binning, policy: DriftPolicy) -> dict[str, NumericBins | CategoricalBins]:
    bins_by_name = dict(binning.columns)
    if binning.score_bins is not None:
        bins_by_name[SCORE] = binning.score_bins
    parts = binning.parts
    return {
        name: bins
        for name, bins in bins_by_name.items()
        if not _own(name, policy, parts.get(name)).ignore
    }


def _own(name: str, policy: DriftPolicy, feature: str | None = None) -> ColumnDriftPolicy:
    """Return what a column does differently, or else the feature that it was derived from."""
    own = policy.columns.get(feature or name, ColumnDriftPolicy())
    return policy.columns.get(name, own)


def _column(
    name: str,
    own: ColumnDriftPolicy,
    policy: DriftPolicy,
    compare: Callable[[DriftMethod], Comparison],
) -> _Column:
    compared = compare(METHODS[own.method or policy.method])
    default = compared.method.default_min_effect * (LABEL_EFFECT if name == LABEL else 1)
    effect = own.min_effect
    if effect is None:
        effect = default if policy.min_effect is None else policy.min_effect
        effect *= policy.importance.scale(name)
    return _Column(name, effect, compared)


def _label_counts(profile: Performance) -> NDArray[np.int64]:
    """Return the rows of each class, none of another, none unseen."""
    if isinstance(profile, RegressionProfile):
        return np.zeros(2, dtype=np.int64)
    return np.append(profile.confusion.sum(axis=1), [0, 0])


def _sample(profile: FeatureProfile, name: str, bins: NumericBins | CategoricalBins) -> Sample:
    column = profile.columns.get(name)
    if column is None:
        return Sample(np.zeros(bins.n_bins, dtype=np.int64))
    if isinstance(bins, CategoricalBins) or not column.n:
        return Sample(column.counts)
    deviation = sqrt(column.m2 / column.n) if isfinite(column.m2) else 0.0
    # Of a constant, rounding leaves a deviation that means nothing.
    spread = deviation if deviation > SMALLEST_DEVIATION * abs(column.mean) else 0.0
    return Sample(column.counts, column.sums, spread)


def _judge(columns: Sequence[_Column], policy: DriftPolicy, share: float) -> list[Measurement]:
    least = max(policy.min_rows, 1)
    tests = sum(len(column.tests(policy.min_rows)) for column in columns)
    usable = {c.name: c.compared for c in columns if c.blocked is None and c.compared.has(least)}
    rare = judge_rare(usable, policy.alpha * share / 2, policy.rare_ratio)
    return [_measure(column, tests, rare.get(column.name, []), policy, share) for column in columns]


def _measure(
    column: _Column,
    tests: int,
    rare: Sequence[tuple[RareCell, float]],
    policy: DriftPolicy,
    share: float,
) -> Measurement:
    compared, half = column.compared, policy.alpha * share / 2
    reasons: list[str] = []
    p_value, threshold, detectable = 1.0, column.min_effect, None
    if (own := column.tests(policy.min_rows)) and compared.score is not None:
        level = sidak_level(half, tests)
        reached = min(_score_at(level, column.method, compared.score, test) for test in own)
        threshold = max(threshold, reached)
        detectable = detectable_effect(own[0], level, column.method, column.min_effect)
        p_value = sidak_adjust(min(test.p_value for test in own), tests)
        if p_value < half and compared.score >= column.min_effect:
            reasons.append(f"{column.method.name} {compared.score:.3f} is beyond {threshold:.3f}")
    for cell, adjusted in rare:
        p_value = min(p_value, adjusted)
        if adjusted < half:
            reasons.append(describe_cell(compared.bins, cell))
    verdict = Verdict.ALERT if reasons else Verdict.OK
    if not reasons:
        reason = _insufficient(column, policy.min_rows)
        if reason is None and threshold == column.method.upper != column.min_effect:
            chunks = compared.tests[0].variability.chunks
            reason = f"the reference's {chunks} chunks differ too much to tell any change"
        if reason is not None:
            verdict, reasons = Verdict.INSUFFICIENT_DATA, [reason]
    judged = verdict is not Verdict.INSUFFICIENT_DATA
    feature = column.name.removeprefix(ATTRIBUTIONS)
    return Measurement(
        metric="drift" if feature == column.name else "attribution_drift",
        subject=feature,
        value=compared.score,
        n=compared.rows,
        n_reference=compared.reference_rows,
        method=column.method.name,
        direction=Direction(column.method.direction),
        verdict=verdict,
        threshold=threshold if judged else None,
        # All parts of alpha are spent side by side, so that this compares to alpha itself.
        p_value=min(2 * p_value / share, 1.0) if judged else None,
        detectable_effect=detectable if judged else None,
        reason="; ".join(reasons) or None,
    )


def _insufficient(column: _Column, min_rows: int) -> str | None:
    compared = column.compared
    if compared.reason is not None:
        return compared.reason
    if compared.rows < min_rows:
        return f"{compared.rows} rows have a value, fewer than {min_rows}"
    if compared.reference_rows < min_rows:
        rows = compared.reference_rows
        return f"{rows} rows of the reference have a value, fewer than {min_rows}"
    return column.blocked


def _score_at(level: float, method: DriftMethod, score: float, test: Test) -> float:
    """Return the score at which p reaches ``level`` at these sizes, along the observed change."""
    critical = test.critical(level)
    if score > 0 and test.statistic > 0:
        found = score * (critical / test.statistic) ** method.exponent
    else:
        found = (method.scale * critical * test.spread) ** method.exponent
    return float(found if method.upper is None else min(found, method.upper))
