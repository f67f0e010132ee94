"""The second instrument: Evidently's scores and report of one window, beside our own results.

For the worker alone: the functions import the adapter, which imports Evidently.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from service.detection.evidently_methods import DEFAULT_METHODS, METHODS, PREFIX, Scale
from service.evaluation.measurement import Direction, Measurement
from service.profiles.columns import Column

ENGINE = "evidently"
MIN_ROWS = 30


def measure(
    reference: pa.Table | bytes,
    current: pa.Table,
    columns: Sequence[Column],
    methods: Mapping[str, str] = DEFAULT_METHODS,
    *,
    overrides: Mapping[str, str] | None = None,
    min_rows: int = MIN_ROWS,
) -> list[Measurement]:
    """Measure the drift of every column, of the prediction and of the score with Evidently.

    Parameters
    ----------
    reference
        Sample of the reference's rows, as a table or as a Parquet file.
    current
        Deterministic sample of the window's rows.
    columns
        The features.
    methods
        Test names by ``numeric`` and ``categorical``, with or without ``evidently.``.
    overrides
        Test names by column.
    min_rows
        Values that each side needs to be measured.

    Returns
    -------
    list of Measurement
        Metric ``drift``, method ``evidently.<test>``, no verdict; a value that cannot be computed
        is ``None`` and has its reason.  ``direction`` says whether the value is a p-value (lower
        is worse; it stands in ``p_value`` too) or a distance.

    Raises
    ------
    KeyError
        If a test has no such name.
    """
    from service.detection.evidently_adapter import score_columns

    scores = score_columns(
        _table(reference), current, columns, methods, overrides or {}, min_rows=min_rows
    )
    found = []
    for score in scores:
        method = METHODS[score.method]
        is_p_value = method.scale is Scale.P_VALUE
        found.append(
            Measurement(
                metric="drift",
                subject=score.subject,
                value=score.value,
                n=score.n,
                n_reference=score.n_reference,
                method=f"{PREFIX}{score.method}",
                engine=ENGINE,
                direction=(Direction.LOWER_IS_WORSE if is_p_value else Direction.HIGHER_IS_WORSE),
                threshold=method.threshold,
                p_value=score.value if is_p_value else None,
                verdict=None,
                reason=score.reason,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Subject:
    """Which window a report is about."""

    model: str
    version: str
    start: datetime
    end: datetime


def render_report(
    window: Subject,
    measurements: Sequence[Measurement],
    *,
    reference: pa.Table | bytes | None,
    current: pa.Table,
    columns: Sequence[Column],
    methods: Mapping[str, str] = DEFAULT_METHODS,
    overrides: Mapping[str, str] | None = None,
) -> bytes:
    """Render Evidently's HTML of one window.

    Parameters
    ----------
    window
        Whose report it is.
    measurements
        The window's recorded measurements: they become metrics, and their verdicts become tests,
        so that the report says what the service says.
    reference, current, columns, methods, overrides
        As for ``measure``; without a reference the sample's drift is left out.

    Returns
    -------
    bytes
        One HTML document in UTF-8 of a few MB, which loads nothing.
    """
    from service.detection import evidently_adapter as adapter

    rows = _table(reference) if reference is not None else None
    scores = (
        adapter.score_columns(rows, current, columns, methods, overrides or {}, min_rows=MIN_ROWS)
        if rows is not None
        else []
    )
    title = f"{window.model}@{window.version} {window.start.isoformat()}/{window.end.isoformat()}"
    results = [
        adapter.RecordedResult(_name(m), m.value, m.verdict, _detail(m)) for m in measurements
    ]
    return adapter.render(
        title, results, scores=scores, reference=rows, current=current, columns=columns
    )


def _table(rows: pa.Table | bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(rows)) if isinstance(rows, bytes) else rows


def _name(measurement: Measurement) -> str:
    subject = f" of {measurement.subject}" if measurement.subject else ""
    part = f" in {measurement.slice}" if measurement.slice else ""
    return f"{measurement.metric}{subject}{part} ({measurement.method})"


def _detail(measurement: Measurement) -> str:
    facts = {
        "threshold": measurement.threshold,
        "reference": measurement.reference_value,
        "p": measurement.p_value,
    }
    said = [f"{name} {value:.4g}" for name, value in facts.items() if value is not None]
    if measurement.value is not None:
        said.insert(0, f"{measurement.value:.4g}")
    if measurement.reason is not None:
        said.append(measurement.reason)
    return ", ".join([*said, f"n {measurement.n}"])
