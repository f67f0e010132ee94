"""Judge whether the input of a window is healthy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.detection.calibration import pearson_x2
from service.detection.quality import (
    beta_binomial_tail,
    binomial_tail,
    good_turing_share,
    unseen_prior,
)
from service.detection.rare import fisher_tail
from service.detection.variability import measure_variability, variable_tail
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.multiplicity import sidak_adjust, sidak_level
from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.columns import Column
from service.profiles.profile import ColumnProfile, FeatureProfile

Counts = NDArray[np.int64]

SCORE = "score"
BOTH_SIDES = 2


@dataclass(frozen=True, slots=True)
class QualityPolicy:
    """When bad input is an alert: how far beyond the reference's own level a ratio may go.

    ``alpha`` is the probability of any quality alert in a window as healthy as the reference.
    """

    alpha: float = 0.01
    missing: float = 0.05
    out_of_range: float = 0.01
    unseen: float = 0.01
    min_rows: int = 100


@dataclass(frozen=True, slots=True)
class _Check:
    """One ratio with its exact p-value, not yet judged against all the others."""

    metric: str
    subject: str
    method: str
    count: int
    rows: int
    reference_rows: int
    reference_value: float
    tolerance: float
    p_value: float | None = None
    reason: str | None = None

    @property
    def threshold(self) -> float:
        """Return the ratio above which it matters; halfway to 1 where the tolerance overshoots."""
        return min(self.reference_value + self.tolerance, (1 + self.reference_value) / 2)


def judge_quality(
    binning: Binning,
    reference: FeatureProfile,
    chunks: Sequence[FeatureProfile],
    current: FeatureProfile,
    policy: QualityPolicy,
    *,
    columns: Sequence[Column] = (),
) -> list[Measurement]:
    """Judge missing, out-of-range and unseen values of every column of a window.

    A ratio alerts when it exceeds the reference's own by more than the tolerance *and* chance is
    ruled out: by Fisher's test for missing values (beyond the reference's own variability), by
    beta-binomial(2, n_reference - 1) beyond the reference's minimum and maximum, by the binomial
    beyond a declared range, by Good and Turing for values that the reference has not seen.

    Parameters
    ----------
    binning
        The edges under which all profiles were made.
    reference, current
        The two windows.
    chunks
        The reference in pieces of about the window's length; may be empty.
    policy
        Tolerances and the level, which is Šidák's over all checks.
    columns
        The features with the ranges that their owner declared.

    Returns
    -------
    list[Measurement]
        ``rows`` first, as information; then per column ``missing_ratio``, and
        ``out_of_range_ratio`` (numeric) or ``unseen_ratio`` (others).  ``p_value`` is adjusted for
        all checks.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from service.profiles.build import profile_features
    >>> from service.profiles.columns import Classes, Kind
    >>> from service.profiles.freeze import freeze_binning
    >>> columns = [Column("plan", Kind.CATEGORICAL)]
    >>> old = pa.table({"plan": ["basic", "gold"] * 100})
    >>> new = pa.table({"plan": ["basic", None] * 100})
    >>> binning = freeze_binning(old, columns, Classes("0", "1"))
    >>> before, after = (profile_features(rows, columns, binning) for rows in (old, new))
    >>> judged = judge_quality(binning, before, [], after, QualityPolicy())
    >>> [(m.metric, m.value, m.verdict and m.verdict.value) for m in judged]
    [('rows', 200.0, None), ('missing_ratio', 0.5, 'alert'), ('unseen_ratio', 0.0, 'ok')]
    """
    declared = {column.name: column for column in columns}
    checks = [
        check
        for name, bins, before, after in _pairs(binning, reference, current)
        for check in (
            _check_missing(name, before, after, _pieces(chunks, name), policy),
            _check_range(name, bins, before, after, declared.get(name), policy)
            if isinstance(bins, NumericBins)
            else _check_unseen(name, bins, before, after, policy),
        )
    ]
    checks = [_require(check, policy.min_rows) for check in checks]
    tests = sum(check.reason is None for check in checks)
    rows = Measurement(
        metric="rows",
        value=float(current.rows),
        n=current.rows,
        n_reference=reference.rows,
        method="count",
        direction=Direction.INFORMATION,
        verdict=None,
    )
    return [rows, *(_measure(check, tests, policy.alpha) for check in checks)]


def _pairs(
    binning: Binning, reference: FeatureProfile, current: FeatureProfile
) -> Iterator[tuple[str, NumericBins | CategoricalBins, ColumnProfile, ColumnProfile]]:
    """Yield the columns that either window has, an absent side as one without rows."""
    bins_by_name = dict(binning.columns)
    if binning.score_bins is not None:
        bins_by_name[SCORE] = binning.score_bins
    for name, bins in bins_by_name.items():
        before, after = reference.columns.get(name), current.columns.get(name)
        if before is None and after is None:
            continue
        zeros, floats = np.zeros(bins.n_bins, np.int64), np.zeros(bins.n_bins)
        empty = ColumnProfile(zeros, floats, floats, floats, 0, 0, None, None, 0.0, 0.0, 0, {})
        yield name, bins, before or empty, after or empty


def _pieces(chunks: Sequence[FeatureProfile], name: str) -> list[ColumnProfile]:
    return [chunk.columns[name] for chunk in chunks if name in chunk.columns]


def _values(column: ColumnProfile) -> int:
    return int(column.counts.sum())


def _check_missing(
    name: str,
    before: ColumnProfile,
    after: ColumnProfile,
    chunks: Sequence[ColumnProfile],
    policy: QualityPolicy,
) -> _Check:
    rows, reference_rows = (_values(side) + side.missing for side in (after, before))
    check = _Check(
        "missing_ratio", name, "fisher", after.missing, rows, reference_rows,
        before.missing / reference_rows if reference_rows else 0.0, policy.missing,
    )  # fmt: skip
    if not rows or not reference_rows:
        return check
    p_value = fisher_tail(after.missing, rows, before.missing, reference_rows)
    variability = measure_variability(
        np.array([[c.missing, _values(c)] for c in chunks], dtype=np.int64).reshape(-1, 2)
    )
    if variability.rho > 0:
        x2, df = pearson_x2(np.array([[side.missing, _values(side)] for side in (before, after)]))
        spread = 1 / rows + 1 / reference_rows
        p_value = max(p_value, variable_tail(x2, df, spread, variability))
    return replace(check, p_value=p_value)


def _check_range(
    name: str,
    bins: NumericBins,
    before: ColumnProfile,
    after: ColumnProfile,
    declared: Column | None,
    policy: QualityPolicy,
) -> _Check:
    rows, reference_rows = _values(after), _values(before)
    check = _Check(
        "out_of_range_ratio", name, "beta_binomial", after.out_of_range, rows, reference_rows,
        before.out_of_range / reference_rows if reference_rows else 0.0, policy.out_of_range,
    )  # fmt: skip
    has_range = declared is not None and (
        declared.minimum is not None or declared.maximum is not None
    )
    if has_range:
        p_value = binomial_tail(after.out_of_range, rows, check.threshold)
        # The range is the owner's, so that the reference need not have a single value.
        return replace(check, method="binomial", p_value=p_value, reference_rows=-1)
    if not rows or not reference_rows:
        return check
    if before.out_of_range or bins.minimum is None:
        # The edges are another reference's: this one is a sample like any other.
        p_value = fisher_tail(after.out_of_range, rows, before.out_of_range, reference_rows)
        return replace(check, method="fisher", p_value=p_value)
    p_value = beta_binomial_tail(after.out_of_range, rows, BOTH_SIDES, max(reference_rows - 1, 1))
    return replace(check, p_value=p_value)


def _check_unseen(
    name: str,
    bins: CategoricalBins,
    before: ColumnProfile,
    after: ColumnProfile,
    policy: QualityPolicy,
) -> _Check:
    rows, reference_rows = _values(after), _values(before)
    count, before_count = int(after.counts[-1]), int(before.counts[-1])
    level = good_turing_share(reference_rows, bins.singletons)
    if before_count:
        level = before_count / reference_rows
    check = _Check(
        "unseen_ratio", name, "good_turing", count, rows, reference_rows, level, policy.unseen
    )
    if not rows or not reference_rows:
        return check
    if before_count:
        # The categories are another reference's: this one is a sample like any other.
        p_value = fisher_tail(count, rows, before_count, reference_rows)
        return replace(check, method="fisher", p_value=p_value)
    prior = unseen_prior(reference_rows, bins.singletons, bins.doubletons)
    return replace(check, p_value=beta_binomial_tail(count, rows, *prior))


def _require(check: _Check, min_rows: int) -> _Check:
    """Name what is too little for a verdict, if anything is."""
    what = "rows" if check.metric == "missing_ratio" else "values"
    if check.rows == 0:
        return replace(check, reason=f"the window has no {what} of this column")
    if check.rows < min_rows:
        return replace(check, reason=f"the window has {check.rows} {what}, fewer than {min_rows}")
    if 0 <= check.reference_rows < min_rows:
        found = f"{check.reference_rows} {what}"
        return replace(check, reason=f"the reference has {found}, fewer than {min_rows}")
    return check


def _measure(check: _Check, tests: int, alpha: float) -> Measurement:
    value = check.count / check.rows if check.rows else None
    verdict, reason, p_value = Verdict.INSUFFICIENT_DATA, check.reason, None
    if reason is None and value is not None and check.p_value is not None:
        p_value = sidak_adjust(check.p_value, tests)
        bad = value > check.threshold and check.p_value < sidak_level(alpha, tests)
        verdict = Verdict.ALERT if bad else Verdict.OK
        if bad:
            reason = f"{100 * value:.1f} % is beyond {100 * check.threshold:.1f} %"
    return Measurement(
        metric=check.metric,
        subject=check.subject,
        value=value,
        n=check.rows,
        n_reference=max(check.reference_rows, 0),
        method=check.method,
        direction=Direction.HIGHER_IS_WORSE,
        verdict=verdict,
        reference_value=check.reference_value,
        threshold=check.threshold,
        p_value=p_value,
        reason=reason,
    )
