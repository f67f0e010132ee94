"""Judge the drift of every column of a window."""

from collections.abc import Sequence
from functools import partial
from math import isfinite, sqrt

import numpy as np

from service.detection.comparison import compare_column
from service.detection.methods import Sample
from service.evaluation.drift_columns import (
    DriftPolicy,
    JudgedColumn,
    judge_columns,
    judged_bins,
    judged_column,
    own_policy,
)
from service.evaluation.measurement import Measurement
from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.profile import FeatureProfile

SMALLEST_DEVIATION = 1e-9


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
    return judge_columns(columns, policy, share)


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
) -> list[JudgedColumn]:
    columns, parts = [], binning.parts
    for name, bins in judged_bins(binning, policy).items():
        pieces = [_sample(chunk, name, bins).rows for chunk in chunks]
        before, after = _sample(reference, name, bins), _sample(current, name, bins)
        compare = partial(compare_column, bins, before, pieces, after)
        columns.append(
            judged_column(name, own_policy(name, policy, parts.get(name)), policy, compare)
        )
    return columns


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
