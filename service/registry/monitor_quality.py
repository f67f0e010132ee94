"""The part of a monitor document that tells when broken input is an alert."""

from typing import ClassVar

from service.registry.documents import Document
from service.registry.monitor_values import Alpha, Effect, Share


class Quality(Document):
    """How much more than in the reference may be bad."""

    part: ClassVar[str] = "quality."

    alpha: Alpha = 0.01
    missing: Share = 0.05
    out_of_range: Share = 0.01
    unseen: Share = 0.01
    type_errors: Share = 0.01
    rejected: Share = 0.01
    duplicates: Share = 0.01
    conflicting_labels: Share = 0.01
    min_rows_per_hour: Effect | None = None
