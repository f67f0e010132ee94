"""The part of a monitor document that tells when rows that moved as a whole are an alert."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from service.registry.documents import Document
from service.registry.monitor_values import Alpha

Method = Literal["domain_classifier", "pca"]
METHODS: tuple[Method, ...] = ("domain_classifier", "pca")


class Multivariate(Document):
    """Whether a classifier can tell a window's rows, and whether columns still hang together."""

    part: ClassVar[str] = "multivariate."

    alpha: Alpha = 0.01
    min_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.6
    methods: tuple[Method, ...] = METHODS
    max_rows: Annotated[int, Field(ge=100, le=50_000)] = 10_000
