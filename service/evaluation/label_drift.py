"""Judge whether the classes of the labels have other shares than in the reference."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.detection.comparison import compare_column
from service.detection.methods import Sample
from service.evaluation.drift_columns import (
    LABEL,
    ColumnDriftPolicy,
    DriftPolicy,
    judge_columns,
    judged_bins,
    judged_column,
    own_policy,
)
from service.evaluation.measurement import Measurement
from service.profiles.binning import Binning, CategoricalBins
from service.profiles.columns import Quantity
from service.profiles.profile import Performance, RegressionProfile


def label_share(binning: Binning, reference: Performance, policy: DriftPolicy) -> float:
    """Return which part of ``alpha`` the label's drift has: that of one column among all.

    It depends on the reference alone, so that labels that arrive change no feature's verdict.
    Labels that are numbers have none: their drift is not judged.
    """
    ignored = policy.columns.get(LABEL, ColumnDriftPolicy()).ignore
    if ignored or not reference.labelled or isinstance(reference, RegressionProfile):
        return 0.0
    return 1 / (1 + len(judged_bins(binning, policy)))


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
        As for :func:`~service.evaluation.drift.judge_drift`, of the labelled rows.
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
    column = judged_column(
        LABEL,
        own_policy(LABEL, policy),
        policy,
        partial(compare_column, bins, before, pieces, after),
    )
    coverage = current.labelled / rows if rows else 0.0
    if withheld is not None:
        column = replace(column, blocked=withheld)
    elif coverage < min_label_coverage:
        blocked = f"{coverage:.0%} of the rows have a label, fewer than {min_label_coverage:.0%}"
        column = replace(column, blocked=blocked.replace("%", " %"))
    return judge_columns([column], policy, share)


def _label_counts(profile: Performance) -> NDArray[np.int64]:
    """Return the rows of each class, none of another, none unseen."""
    if isinstance(profile, RegressionProfile):
        return np.zeros(2, dtype=np.int64)
    return np.append(profile.confusion.sum(axis=1), [0, 0])
