"""Checks of one column: missing, out of range, unseen and stuck values, and other units."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.detection.comparison import compare_column
from service.detection.methods import METHODS, Sample
from service.detection.quality import (
    beta_binomial_tail,
    binomial_tail,
    good_turing_share,
    stuck_tail,
    unseen_prior,
)
from service.detection.rare import fisher_tail
from service.detection.units import find_unit_change
from service.evaluation.measurement import SMALLEST_GROUP
from service.evaluation.quality_check import Check, more_often, ratio_check
from service.profiles.binning import CategoricalBins, NumericBins
from service.profiles.columns import Column
from service.profiles.profile import ColumnProfile

Counts = NDArray[np.int64]

BOTH_SIDES = 2
# A value that nearly all rows of the reference have says nothing when all rows of a window do.
NEARLY_ALWAYS = 0.99
# Nobody is recognised by a value that as many rows share.
SHARED_BY = SMALLEST_GROUP


def values_of(column: ColumnProfile) -> int:
    """Return how many rows have a value."""
    return int(column.counts.sum())


def check_missing(
    name: str,
    before: ColumnProfile,
    after: ColumnProfile,
    chunks: Sequence[ColumnProfile],
    tolerance: float,
) -> Check:
    """Check missing values by Fisher's test, beyond the reference's own variability."""
    rows, reference_rows = (values_of(side) + side.missing for side in (after, before))
    level = before.missing / reference_rows if reference_rows else 0.0
    check = ratio_check(
        "missing_ratio", name, "fisher", (after.missing, rows), (reference_rows, level), tolerance
    )
    if not rows or not reference_rows:
        return check
    if after.missing == rows:
        check = replace(check, finding=f"vanished: none of {rows} rows has it")
    pieces = [(c.missing, values_of(c)) for c in chunks]
    counts = (after.missing, rows), (before.missing, reference_rows)
    return replace(check, p_value=more_often(*counts, pieces))


def check_range(
    name: str,
    bins: NumericBins,
    before: ColumnProfile,
    after: ColumnProfile,
    declared: Column | None,
    tolerance: float,
) -> Check:
    """Check values outside the declared range, or outside the reference's own."""
    rows, reference_rows = values_of(after), values_of(before)
    level = before.out_of_range / reference_rows if reference_rows else 0.0
    check = ratio_check(
        "out_of_range_ratio", name, "beta_binomial",
        (after.out_of_range, rows), (reference_rows, level), tolerance,
    )  # fmt: skip
    has_range = declared is not None and (
        declared.minimum is not None or declared.maximum is not None
    )
    if has_range:
        p_value = binomial_tail(after.out_of_range, rows, check.threshold or 0.0)
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


def check_unseen(
    name: str,
    bins: CategoricalBins,
    before: ColumnProfile,
    after: ColumnProfile,
    tolerance: float,
) -> Check:
    """Check values that the reference does not have, against how many new ones it promises."""
    rows, reference_rows = values_of(after), values_of(before)
    count, before_count = int(after.counts[-1]), int(before.counts[-1])
    level = good_turing_share(reference_rows, bins.singletons)
    if before_count:
        level = before_count / reference_rows
    check = ratio_check(
        "unseen_ratio", name, "good_turing", (count, rows), (reference_rows, level), tolerance
    )
    if not rows or not reference_rows:
        return check
    if before_count:
        # The categories are another reference's: this one is a sample like any other.
        p_value = fisher_tail(count, rows, before_count, reference_rows)
        return replace(check, method="fisher", p_value=p_value)
    prior = unseen_prior(reference_rows, bins.singletons, bins.doubletons)
    return replace(check, p_value=beta_binomial_tail(count, rows, *prior))


def check_stuck(
    name: str,
    bins: NumericBins | CategoricalBins,
    before: ColumnProfile,
    after: ColumnProfile,
    chunks: Sequence[ColumnProfile],
) -> Check | None:
    """Check that a column which varies in the reference has more than one value in the window.

    ``None`` where it does not vary in the reference: there is nothing to test.
    """
    if _only_value(bins, before) is not None or values_of(before) == 0:
        return None
    rows, reference_rows = values_of(after), values_of(before)
    largest = int(before.counts.max())
    value = _only_value(bins, after)
    level = largest / reference_rows
    check = Check(
        "constant", name, "exact", 1.0, rows, reference_rows, level, NEARLY_ALWAYS, p_value=1.0,
        recorded=value is not None,
    )  # fmt: skip
    if value is None:
        return check
    index, said = value
    p_value = stuck_tail(rows, before.counts)
    pieces = [(int(c.counts[index]), values_of(c) - int(c.counts[index])) for c in chunks]
    p_value = max(p_value, more_often((rows, rows), (largest, reference_rows), pieces))
    still = sum(_only_value(bins, chunk) is not None for chunk in chunks)
    if still:
        # Days of one weekday each: the reference's own pieces stand still as well.
        p_value = max(p_value, (still + 1) / (len(chunks) + 1))
    known = not isinstance(bins, CategoricalBins) or before.counts[index] >= SHARED_BY
    finding = f"stuck at {said}" if known and said else "stuck at one value"
    return replace(check, p_value=p_value, beyond=level <= NEARLY_ALWAYS, finding=finding)


def _only_value(
    bins: NumericBins | CategoricalBins, column: ColumnProfile
) -> tuple[int, str] | None:
    """Return the bin and the text of the only value of a column, ``None`` if it has another."""
    filled = np.flatnonzero(column.counts)
    if isinstance(bins, NumericBins):
        if column.minimum is None or column.minimum != column.maximum:
            return None
        return int(filled[0]), f"{column.minimum:.6g}"
    if len(filled) != 1:
        return None
    index = int(filled[0])
    if index < len(bins.categories):
        return index, bins.categories[index]
    if index == len(bins.categories) or len(column.unseen) != 1:
        return None
    return index, ""


def check_unit(
    name: str,
    bins: NumericBins,
    before: ColumnProfile,
    after: ColumnProfile,
    chunks: Sequence[ColumnProfile],
) -> Check:
    """Check whether a column came in another unit; chance is ruled out as for drift."""
    check = Check(
        "unit_change", name, "rescaling", 1.0, values_of(after), values_of(before), 1.0,
        p_value=1.0, recorded=False,
    )  # fmt: skip
    change = find_unit_change(bins, before, after)
    if change is None:
        return check
    compared = compare_column(
        bins, Sample(before.counts), [chunk.counts for chunk in chunks], Sample(after.counts),
        METHODS["total_variation"],
    )  # fmt: skip
    value, usual = (change.move, 0.0) if change.move else (change.factor, 1.0)
    return replace(
        check, value=value, reference_value=usual, recorded=True, beyond=True,
        finding=change.sentence,
        # Of all groups: a factor may leave the level of a column around zero where it was.
        p_value=compared.tests[0].p_value if compared.tests else 1.0,
    )  # fmt: skip
