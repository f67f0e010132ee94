"""The loss of each row, and the metric that is its mean."""

import numpy as np
import pyarrow as pa

from service.profiles.arrays import LABEL, PREDICTION, class_codes, find_floats
from service.profiles.binning import Binning, Floats
from service.profiles.columns import Quantity


def metric_of(binning: Binning) -> str:
    """Return the metric that a slice is found by."""
    return "rmse" if isinstance(binning.output, Quantity) else "accuracy"


def losses_of(rows: pa.Table, binning: Binning) -> Floats:
    """Return each row's loss: 1 for an error, of a regression its square; NaN if unknown."""
    output = binning.output
    if isinstance(output, Quantity):
        with np.errstate(over="ignore"):
            square = (find_floats(rows, LABEL) - find_floats(rows, PREDICTION)) ** 2
        return np.where(np.isfinite(square), square, np.nan)
    label, predicted = class_codes(rows, LABEL, output), class_codes(rows, PREDICTION, output)
    known = (label >= 0) & (predicted >= 0)
    return np.where(known, (label != predicted).astype(np.float64), np.nan)
