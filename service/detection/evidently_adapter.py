"""The only module that imports Evidently: 4 to 10 s and 280 MB, so only the worker imports this.

One column at a time, each isolated: in Evidently one column that raises aborts its whole report.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from service.detection.evidently_columns import (
    TARGETS,
    Pair,
    obstacle_to,
    pair_of,
    thinned,
    with_other,
    with_targets,
)
from service.detection.evidently_html import without_markup
from service.detection.evidently_methods import METHODS, method_for
from service.profiles.columns import Column, Kind

with warnings.catch_warnings():
    # It patches numpy's private names, whose use numpy deprecates.
    warnings.simplefilter("ignore")
    from evidently import DataDefinition, Dataset, Report
    from evidently.core.metric_types import (
        MetricTest,
        MetricTestResult,
        SingleValueCalculation,
        SingleValueMetric,
        render_widgets,
    )
    from evidently.legacy.calculations.stattests.registry import get_registered_stattest
    from evidently.legacy.core import ColumnType
    from evidently.legacy.tests.base_test import TestStatus
    from evidently.metrics import ValueDrift

# The plots of a report are quadratic in one-sided categories; a chart shows no more than this.
_SHOWN_CATEGORIES = 50
_SHOWN_ROWS = 10_000
# A category that fewer rows have says who they are.
SMALLEST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Score:
    """What one of Evidently's tests says of one column.

    ``value`` is finite, or ``None`` together with a ``reason``; ``n`` and ``n_reference`` count
    the values that the test saw.
    """

    subject: str
    method: str
    value: float | None
    n: int
    n_reference: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """A result of the service's own, to be shown in a report: ``verdict`` is ours, word by word.

    ``name`` is unique in its window; ``detail`` is a sentence; ``value`` may be ``None``.
    """

    name: str
    value: float | None
    verdict: str | None
    detail: str


def score_columns(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    methods: Mapping[str, str],
    overrides: Mapping[str, str],
    *,
    min_rows: int,
) -> list[Score]:
    """Run one named drift test on each column, and on the prediction and the score.

    Parameters
    ----------
    reference, current
        Rows under the features' real names; a column that neither side has is left out.
    columns
        The features to measure.  A prediction that is a number is given like one.
    methods
        Test names by ``numeric`` and ``categorical``; see ``METHODS``.
    overrides
        Test names by column, which win over ``methods``.
    min_rows
        Values that each side needs.

    Returns
    -------
    list of Score
        In the order of ``columns``, then ``prediction`` and ``score``.

    Raises
    ------
    KeyError
        If a test has no such name.
    """
    scores = []
    for column in with_targets(columns):
        name = method_for(column, methods, overrides)
        pair = pair_of(reference, current, column, METHODS[name])
        if pair is None and column in TARGETS:
            continue
        scores.append(_score(column, name, pair, min_rows))
    return scores


def _score(column: Column, name: str, pair: Pair | None, min_rows: int) -> Score:
    if pair is None:
        return Score(column.name, name, None, 0, 0, "column_unusable")
    before, now = pair
    sizes = (len(now), len(before))
    reason = obstacle_to(column, name, pair, min_rows)
    if reason is not None:
        return Score(column.name, name, None, *sizes, reason)
    try:
        value = _statistic(column, name, before, now)
    except Exception as error:  # noqa: BLE001  whatever it raises must not cost the other columns
        return Score(column.name, name, None, *sizes, f"failed: {type(error).__name__}")
    if not np.isfinite(value):
        return Score(column.name, name, None, *sizes, "not_finite")
    return Score(column.name, name, value, *sizes, None)


def _statistic(column: Column, name: str, before: Any, now: Any) -> float:
    kind = ColumnType.Numerical if column.kind is Kind.NUMERIC else ColumnType.Categorical
    test = get_registered_stattest(name, kind)
    with _contained():
        result = test(before, now, kind, METHODS[name].threshold)
    return float(result.drift_score)


@contextmanager
def _contained() -> Iterator[None]:
    """Keep to the call what Evidently does to the process: warnings, and the global seed."""
    state = np.random.get_state()  # noqa: NPY002  two of its tests seed just this generator
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002  as above


class RecordedVerdict(MetricTest):  # type: ignore[misc]  # Evidently has no types
    """A test whose outcome is the verdict that the service has recorded."""

    status: str
    detail: str

    def to_test(self) -> Any:
        """Return the function that Evidently calls for the outcome."""

        def outcome(_context: Any, metric: Any, value: Any) -> Any:
            return MetricTestResult(
                id="recorded_verdict",
                name=value.display_name,
                description=self.detail,
                status=TestStatus(self.status),
                metric_config=metric.to_metric_config(),
                test_config=self.dict(),
            )

        return outcome


class RecordedMetric(SingleValueMetric):  # type: ignore[misc]  # as above
    """A number that was computed elsewhere."""

    title: str
    number: float


class RecordedMetricCalculation(SingleValueCalculation[RecordedMetric]):  # type: ignore[misc]  # as above
    """Evidently's way to a number: here it is already known."""

    def calculate(self, _context: Any, _current: Any, _reference: Any) -> Any:
        """Return the recorded number."""
        return self.result(self.metric.number)

    def display_name(self) -> str:
        """Return its title."""
        return str(self.metric.title)


def render(
    title: str,
    results: Sequence[RecordedResult],
    *,
    scores: Sequence[Score],
    reference: pa.Table | None,
    current: pa.Table,
    columns: Sequence[Column],
) -> bytes:
    """Render Evidently's HTML: the recorded results as tests, then the drift of the sample.

    Parameters
    ----------
    title
        Heading of the recorded results.
    results
        Results of the window; those without a value are listed as skipped tests.
    scores
        What ``score_columns`` said; only columns that have a score are drawn.
    reference, current
        The rows of the two sides; without a reference nothing is drawn of them.
    columns
        The features.

    Returns
    -------
    bytes
        One HTML document in UTF-8, which loads nothing and in which no text of the data can end a
        script element.  Serve it sandboxed all the same.
    """
    drawn: list[Any] = []
    if reference is not None:
        known = {column.name: column for column in with_targets(columns)}
        for score in scores:
            if score.value is not None and score.subject in known:
                drawn += _drift_widgets(reference, current, known[score.subject], score.method)
    with _contained():
        snapshot = Report(_recorded(title, results), include_tests=True).run(
            Dataset.from_pandas(pd.DataFrame({"_": [0.0]}))
        )
        widgets = [*snapshot._tests_widgets, *snapshot._widgets, *drawn]  # noqa: SLF001  no accessor
        return without_markup(render_widgets(widgets)).encode()


_STATUS = {"ok": "SUCCESS", "alert": "FAIL", "insufficient_data": "SKIPPED"}


def _recorded(title: str, results: Sequence[RecordedResult]) -> list[RecordedMetric]:
    missing = [result for result in results if result.value is None]
    skipped = [
        RecordedVerdict(status="SKIPPED", detail=f"{result.name}: {result.detail}")
        for result in missing
    ]
    count = RecordedMetric(
        title=f"{title}: results without enough data", number=len(missing), tests=skipped
    )
    return [
        *(
            RecordedMetric(title=r.name, number=r.value, tests=_tests(r))
            for r in results
            if r.value is not None
        ),
        count,
    ]


def _tests(result: RecordedResult) -> list[RecordedVerdict]:
    if result.verdict is None:
        return []
    return [RecordedVerdict(status=_STATUS[result.verdict], detail=result.detail)]


def _drift_widgets(
    reference: pa.Table, current: pa.Table, column: Column, method: str
) -> list[Any]:
    pair = pair_of(reference, current, column, METHODS[method])
    if pair is None:
        return []
    rows = min(_SHOWN_ROWS, METHODS[method].max_rows)
    before, now = thinned(pair[0], rows), thinned(pair[1], rows)
    if column.kind is Kind.NUMERIC:
        definition = DataDefinition(numerical_columns=[column.name])
    else:
        before, now = with_other(before, now, _SHOWN_CATEGORIES, SMALLEST_SHOWN)
        definition = DataDefinition(categorical_columns=[column.name])
    drift = ValueDrift(column=column.name, method=method, threshold=METHODS[method].threshold)
    try:
        with _contained():
            snapshot = Report([drift]).run(
                *(
                    Dataset.from_pandas(pd.DataFrame({column.name: side}), definition)
                    for side in (now, before)
                )
            )
            return list(snapshot._widgets)  # noqa: SLF001  no accessor
    except Exception:  # noqa: BLE001  a column that cannot be drawn must not cost the report
        return []
