"""Judge whether the input of a window is healthy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.evaluation.measurement import Measurement
from service.evaluation.quality_check import Check, measure_checks, require
from service.evaluation.quality_columns import (
    check_missing,
    check_range,
    check_stuck,
    check_unit,
    check_unseen,
)
from service.evaluation.quality_rows import (
    CONFLICTING_LABELS,
    check_duplicates,
    check_labels,
    check_rejected,
    check_types,
)
from service.evaluation.quality_volume import check_volume
from service.evaluation.traffic import NO_TRAFFIC, Traffic
from service.profiles.arrays import PREDICTION, SCORE, SCORES
from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.columns import ATTRIBUTIONS, Column
from service.profiles.profile import ColumnProfile, FeatureProfile, Performance

QUALITY_METRICS = frozenset(
    {
        *("missing_ratio", "out_of_range_ratio", "unseen_ratio", "constant", "unit_change"),
        *("rows", "type_error_ratio", "rejected_ratio", "duplicate_ratio"),
        CONFLICTING_LABELS,
    }
)
# What their reasons tell is plainer than their numbers.
TOLD = frozenset(
    {
        *("constant", "unit_change", "rows", "rejected_ratio", "duplicate_ratio"),
        CONFLICTING_LABELS,
    }
)


@dataclass(frozen=True, slots=True)
class QualityPolicy:
    """When bad input is an alert: how far beyond the reference's own level a ratio may go.

    ``alpha`` is the probability of any quality alert in a window as healthy as the reference.
    """

    alpha: float = 0.01
    missing: float = 0.05
    out_of_range: float = 0.01
    unseen: float = 0.01
    type_errors: float = 0.01
    rejected: float = 0.01
    duplicates: float = 0.01
    conflicting_labels: float = 0.01
    min_rows_per_hour: float | None = None
    min_rows: int = 100


def judge_quality(
    binning: Binning,
    reference: FeatureProfile,
    chunks: Sequence[FeatureProfile],
    current: FeatureProfile,
    policy: QualityPolicy,
    *,
    columns: Sequence[Column] = (),
    traffic: Traffic = NO_TRAFFIC,
    performance: Performance | None = None,
) -> list[Measurement]:
    """Judge every column of a window, and its rows as a whole.

    A ratio alerts when it exceeds the reference's own by more than the tolerance *and* chance is
    ruled out: by Fisher's test for missing values (beyond the reference's own variability), by
    beta-binomial(2, n_reference - 1) beyond the reference's minimum and maximum, by the binomial
    beyond a declared range, for what ingest counted and for labels that contradict, by Poisson's
    law for rows that repeat another one, by Good and Turing for values that the reference has not
    seen.  A column that varies in the reference alerts when all rows of the window have one value,
    and chance cannot have done it; a declared numeric one when all values look multiplied, or
    moved, by one amount.

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
    traffic
        What ingest counted, and how many rows came before.
    performance
        The labelled rows, of which those that were given different labels are judged.

    Returns
    -------
    list[Measurement]
        ``rows`` first, as information where nothing is known of earlier windows; then per column
        ``missing_ratio``, and ``out_of_range_ratio`` (numeric) or ``unseen_ratio`` (others);
        ``duplicate_ratio``; ``constant``, ``unit_change``, ``type_error_ratio`` and
        ``rejected_ratio`` only where there is any; ``conflicting_label_ratio`` where there are
        labels.  ``p_value`` is adjusted for all checks, these included.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from service.profiles.build import profile_features
    >>> from service.profiles.columns import Classes, Kind
    >>> from service.profiles.freeze import freeze_binning
    >>> columns = [Column("plan", Kind.CATEGORICAL)]
    >>> old = pa.table({"plan": ["basic", "gold"] * 100})
    >>> new = pa.table({"plan": ["basic", "gold", None, None] * 50})
    >>> binning = freeze_binning(old, columns, Classes("0", "1"))
    >>> before, after = (profile_features(rows, columns, binning) for rows in (old, new))
    >>> judged = judge_quality(binning, before, [], after, QualityPolicy())
    >>> [(m.metric, m.value, m.verdict.value) for m in judged if m.verdict]
    [('missing_ratio', 0.5, 'alert'), ('unseen_ratio', 0.0, 'ok'), ('duplicate_ratio', 0.985, 'ok')]
    """
    checks = check_volume(current.rows, traffic.earlier, policy.min_rows_per_hour)
    checks = [replace(check, reference_rows=reference.rows) for check in checks]
    checks += _check_columns(binning, reference, chunks, current, policy, columns)
    duplicates = check_duplicates(reference, current, chunks, policy.duplicates)
    checks.append(require(duplicates, policy.min_rows, "rows"))
    checks += _check_rows(current.rows, columns, traffic, policy, performance)
    return measure_checks(checks, policy.alpha)


def judge_traffic(
    rows: int,
    columns: Sequence[Column],
    traffic: Traffic,
    policy: QualityPolicy,
    performance: Performance | None = None,
) -> list[Measurement]:
    """Judge what needs no reference: how many rows came, what ingest counted, and their labels.

    Parameters
    ----------
    rows
        Rows of the window that were stored.
    columns, traffic, policy, performance
        As for :func:`judge_quality`.

    Returns
    -------
    list[Measurement]
        ``rows``, and what else was found.

    Examples
    --------
    >>> traffic = Traffic(rejected={"unknown-feature": 50})
    >>> _, found = judge_traffic(150, [], traffic, QualityPolicy())
    >>> found.metric, found.value, found.reason
    ('rejected_ratio', 0.25, '25.0 % of the rows were refused, most as unknown-feature')
    """
    checks = check_volume(rows, traffic.earlier, policy.min_rows_per_hour)
    checks += _check_rows(rows, columns, traffic, policy, performance)
    return measure_checks(checks, policy.alpha)


def _check_columns(
    binning: Binning,
    reference: FeatureProfile,
    chunks: Sequence[FeatureProfile],
    current: FeatureProfile,
    policy: QualityPolicy,
    columns: Sequence[Column],
) -> list[Check]:
    declared = {column.name: column for column in columns}
    parts = binning.parts
    checks = []
    for name, bins, before, after in _pairs(binning, reference, current):
        pieces = [chunk.columns[name] for chunk in chunks if name in chunk.columns]
        if name not in parts:
            missing = check_missing(name, before, after, pieces, policy.missing)
            checks.append(require(missing, policy.min_rows, "rows"))
        if bins is None or (name in parts and isinstance(bins, CategoricalBins)):
            # A day has one month and one weekday; nothing is unseen in a calendar.
            continue
        found = [check_stuck(name, bins, before, after, pieces)]
        if isinstance(bins, CategoricalBins):
            found.append(check_unseen(name, bins, before, after, policy.unseen))
        elif name not in parts and not _is_output(name):
            range_ = declared.get(name)
            found.append(check_range(name, bins, before, after, range_, policy.out_of_range))
        if isinstance(bins, NumericBins) and name in declared:
            found.append(check_unit(name, bins, before, after, pieces))
        checks += [require(check, policy.min_rows, "values") for check in found if check]
    return checks


def _is_output(name: str) -> bool:
    # What the model makes of moved inputs may lie outside all that it said before: that is drift.
    return name in {PREDICTION, SCORE} or name.startswith(SCORES)


def _check_rows(
    rows: int,
    columns: Sequence[Column],
    traffic: Traffic,
    policy: QualityPolicy,
    performance: Performance | None,
) -> list[Check]:
    checks = [
        *check_types(columns, traffic, rows, policy.type_errors),
        check_rejected(traffic, rows, policy.rejected),
    ]
    found = [require(check, policy.min_rows, "rows") for check in checks]
    if performance is not None:
        labels = check_labels(performance, policy.conflicting_labels)
        found += [require(check, policy.min_rows, "labelled rows") for check in labels]
    return found


def _pairs(
    binning: Binning, reference: FeatureProfile, current: FeatureProfile
) -> Iterator[tuple[str, NumericBins | CategoricalBins | None, ColumnProfile, ColumnProfile]]:
    """Yield the columns that either window has, an absent side as one without rows.

    A feature that others are derived from has no bins.
    """
    bins_by_name: dict[str, NumericBins | CategoricalBins | None] = dict.fromkeys(binning.sources)
    bins_by_name.update(binning.columns)
    if binning.score_bins is not None:
        bins_by_name[SCORE] = binning.score_bins
    for name, bins in bins_by_name.items():
        # What was contributed is no input: it may be logged for some rows only.
        if name.startswith(ATTRIBUTIONS):
            continue
        before, after = reference.columns.get(name), current.columns.get(name)
        if before is None and after is None:
            continue
        size = 1 if bins is None else bins.n_bins
        zeros, floats = np.zeros(size, np.int64), np.zeros(size)
        empty = ColumnProfile(zeros, floats, floats, floats, 0, 0, None, None, 0.0, 0.0, 0, {})
        yield name, bins, before or empty, after or empty
