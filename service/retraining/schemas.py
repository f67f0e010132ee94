"""What is said of retraining requests."""

from typing import Literal

RequestState = Literal["open", "acknowledged", "retraining", "resolved", "dismissed"]
Deed = Literal["acknowledge", "start", "dismiss"]
