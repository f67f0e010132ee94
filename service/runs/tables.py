"""Windows, their measurements, and the requests to evaluate them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base


class Window(Base):
    """One revision of one judged window [start, end); exactly one revision is the latest.

    ``digest`` tells whether a new judgement says anything new, ``data_digest`` whether it does so
    without its labels.  A ``silent`` window was judged without alerting anybody.
    """

    __tablename__ = "window"
    __table_args__ = (
        UniqueConstraint("version_id", "start", "end", "revision"),
        Index(
            "uq_window_latest",
            "version_id",
            "start",
            "end",
            unique=True,
            postgresql_where=text("latest"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    version_id: Mapped[int]
    start: Mapped[datetime]
    end: Mapped[datetime]
    revision: Mapped[int]
    latest: Mapped[bool]
    rows: Mapped[int]
    labelled: Mapped[int]
    label_coverage: Mapped[float | None]
    verdicts: Mapped[dict[str, Any]]
    drifted_features: Mapped[list[Any]]
    alerting_metrics: Mapped[list[Any]]
    warnings: Mapped[list[Any]]
    action: Mapped[str]
    reason: Mapped[str]
    silent: Mapped[bool]
    data_digest: Mapped[str]
    digest: Mapped[str]
    reference_revision: Mapped[int | None]
    config_revision: Mapped[int]
    evaluated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Measurement(Base):
    """One number of one window, with its interval, counts, method, threshold and verdict."""

    __tablename__ = "measurement"

    window_id: Mapped[int] = mapped_column(
        ForeignKey("window.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    metric: Mapped[str]
    subject: Mapped[str | None]
    slice: Mapped[str | None]
    value: Mapped[float | None]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    n: Mapped[int]
    n_eff: Mapped[float | None]
    n_reference: Mapped[int | None]
    method: Mapped[str]
    engine: Mapped[str]
    direction: Mapped[str]
    reference_value: Mapped[float | None]
    threshold: Mapped[float | None]
    p_value: Mapped[float | None]
    detectable_effect: Mapped[float | None]
    verdict: Mapped[str | None]
    reason: Mapped[str | None]


class LatestWindow(Base):
    """Which window holds a version's newest figures of one family (data, estimate, performance)."""

    __tablename__ = "latest_window"

    version_id: Mapped[int] = mapped_column(primary_key=True)
    family: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[int]
    start: Mapped[datetime]
    end: Mapped[datetime]


class Evaluation(Base):
    """A request to evaluate windows now; its windows are listed once the buckets are profiled."""

    __tablename__ = "evaluation"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int]
    from_: Mapped[datetime | None] = mapped_column("from")
    until: Mapped[datetime]
    alert: Mapped[bool]
    planned: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EvaluationWindow(Base):
    """One window of an evaluation; ``outcome`` is evaluated, revised or failed once it is done."""

    __tablename__ = "evaluation_window"
    __table_args__ = (Index(None, "version_id", "start"),)

    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True
    )
    version_id: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    end: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str | None]
    insufficient: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class RowFinding(Base):
    """What one engine found in the rows of one window, for the judgements of just these rows.

    ``data_digest`` and ``labelled`` tell which rows and how many labels it saw, ``config_revision``
    what was asked; ``content`` is a list of measurements.
    """

    __tablename__ = "row_finding"

    version_id: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    end: Mapped[datetime] = mapped_column(primary_key=True)
    engine: Mapped[str] = mapped_column(primary_key=True)
    data_digest: Mapped[str]
    config_revision: Mapped[int]
    labelled: Mapped[int]
    content: Mapped[list[Any]]
    found_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Report(Base):
    """Evidently's HTML of one window revision, compressed with zlib.

    Where it could not be rendered, ``error`` says why and the content is empty.
    """

    __tablename__ = "report"

    window_id: Mapped[int] = mapped_column(
        ForeignKey("window.id", ondelete="CASCADE"), primary_key=True
    )
    content: Mapped[bytes] = mapped_column(LargeBinary)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Erasure(Base):
    """The receipt of an erasure: whom it was about as a keyed hash, and how much of what went."""

    __tablename__ = "erasure"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    subject: Mapped[str]
    counts: Mapped[dict[str, Any]]
    erased_at: Mapped[datetime] = mapped_column(server_default=func.now())
