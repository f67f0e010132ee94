"""Log a deployed model's predictions and labels to modelwatch."""

from modelwatch.context import Correlation, correlate, current_prediction_id
from modelwatch.errors import LostRecordsError, NotStoredError
from modelwatch.ids import new_prediction_id
from modelwatch.monitor import Monitor

__all__ = [
    "Correlation",
    "LostRecordsError",
    "Monitor",
    "NotStoredError",
    "correlate",
    "current_prediction_id",
    "new_prediction_id",
]
__version__ = "0.1.0"
