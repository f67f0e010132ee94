"""Summarise the labelled rows of a regression model: sums of errors and of their powers."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.profiles.arrays import LABEL, PREDICTION, find_array, find_floats, find_weights
from service.profiles.binning import Binning, Floats, NumericBins
from service.profiles.profile import REGRESSION_SUMS, RegressionProfile

Mask = NDArray[np.bool_]

# The fourth power of a larger error would overflow.
LARGEST_NUMBER = 1e70


def profile_regression(rows: pa.Table, binning: Binning) -> RegressionProfile:
    """Summarise the labelled rows among ``rows``; rows whose ``label`` is null are left out.

    Parameters
    ----------
    rows
        ``label`` and ``prediction`` (numbers), ``weight`` where logged.  Numbers beyond 1e70 count
        as 1e70.
    binning
        The frozen edges; those of the prediction say what labels are centred on.

    Returns
    -------
    RegressionProfile
        Rows with a label whose label or prediction is no finite number are in ``unusable`` alone.
    """
    label, predicted = find_floats(rows, LABEL), find_floats(rows, PREDICTION)
    weights = find_weights(rows)
    labels = find_array(rows, LABEL)
    present = 0 if labels is None else rows.num_rows - labels.null_count
    usable = np.isfinite(label) & np.isfinite(predicted)
    y = label[usable].clip(-LARGEST_NUMBER, LARGEST_NUMBER)
    p = predicted[usable].clip(-LARGEST_NUMBER, LARGEST_NUMBER)
    w = np.ones(len(y)) if weights is None else weights[usable]
    log = (y > -1) & (p > -1)
    relative = y != 0
    with np.errstate(over="ignore", invalid="ignore"):
        sums = _sums(y, p, w, label_center(binning), log, relative)
    return RegressionProfile(
        labelled=len(y),
        unusable=present - len(y),
        zero_labels=int(np.count_nonzero(~relative)),
        outside_log=int(np.count_nonzero(~log)),
        sums=np.array([sums[name] for name in REGRESSION_SUMS], dtype=np.float64),
    )


def _sums(
    y: Floats, p: Floats, w: Floats, center: float, log: Mask, relative: Mask
) -> dict[str, float]:
    e, u = p - y, y - center
    e2, u2 = e * e, u * u
    l2 = (np.log1p(p[log]) - np.log1p(y[log])) ** 2
    r = np.abs(e[relative] / y[relative])
    wl, wr = w[log], w[relative]
    return {
        "w": w.sum(),
        "ww": w @ w,
        "e": w @ e,
        "abs_e": w @ np.abs(e),
        "e2": w @ e2,
        "e4": w @ (e2 * e2),
        "u": w @ u,
        "u2": w @ u2,
        "u3": w @ (u2 * u),
        "u4": w @ (u2 * u2),
        "e2u": w @ (e2 * u),
        "e2u2": w @ (e2 * u2),
        "l2": wl @ l2,
        "l4": wl @ (l2 * l2),
        "relative_w": wr.sum(),
        "relative_ww": wr @ wr,
        "r": wr @ r,
        "r2": wr @ (r * r),
    }


def label_center(binning: Binning) -> float:
    """Return what labels are centred on: the middle of the reference's predictions, 0 without."""
    bins = binning.columns.get(PREDICTION)
    if not isinstance(bins, NumericBins):
        return 0.0
    values = bins.edges if len(bins.edges) else bins.atoms
    center = float(values[len(values) // 2]) if len(values) else 0.0
    return min(max(center, -LARGEST_NUMBER), LARGEST_NUMBER)
