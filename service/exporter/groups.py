"""Measurements of declared slices and of classes as samples (pure)."""

from collections.abc import Iterator, Sequence
from typing import Any

from service.exporter.exposition import Sample
from service.exporter.measured import UNBOUNDED
from service.registry.slicing import SliceDocument, declaration_of

RECALL = "recall"


def slice_samples(
    own: tuple[str, str], measured: Sequence[Any], declared: Sequence[SliceDocument]
) -> Iterator[Sample]:
    """Yield the samples of the slices that are declared, critical ones first.

    A slice that is too small for a value still has its rows.
    """
    of_slice: dict[str, SliceDocument] = {}
    rows: dict[str, int] = {}
    found: list[Any] = []
    for row in measured:
        declaration = of_slice.get(row.slice) or declaration_of(row.slice, declared)
        if declaration is not None:
            of_slice[row.slice] = declaration
            rows[row.slice] = max(rows.get(row.slice, 0), row.n)
            found.append(row)
    for row in sorted(found, key=lambda row: not of_slice[row.slice].critical):
        if row.value is not None:
            yield from _performance(own, row, critical=of_slice[row.slice].critical)
    for name, declaration in of_slice.items():
        yield Sample("modelwatch_slice_rows", (*own, name), float(rows[name]))
        if declaration.metric is not None and declaration.limit is not None:
            side = "floor" if declaration.ceiling is None else "ceiling"
            metric = f"modelwatch_slice_{side}_{_unit(declaration.metric)}"
            yield Sample(metric, (*own, name, declaration.metric), declaration.limit)


def _performance(own: tuple[str, str], row: Any, *, critical: bool) -> Iterator[Sample]:
    values = {"": row.value, "_ci_lower": row.ci_low, "_ci_upper": row.ci_high}
    metric_labels = (*own, row.slice, row.metric, str(critical).lower())
    for sibling, value in values.items():
        if value is not None:
            name = f"modelwatch_slice_performance{sibling}_{_unit(row.metric)}"
            yield Sample(name, metric_labels, value)


def _unit(metric: str) -> str:
    return "error" if metric in UNBOUNDED else "ratio"


def class_samples(own: tuple[str, str], measured: Sequence[Any]) -> Iterator[Sample]:
    """Yield the recall of each class of a model of many, its floor, and the rows that it is of."""
    for row in measured:
        if row.metric != RECALL or row.subject is None:
            continue
        metric_labels = (*own, row.subject)
        yield Sample("modelwatch_class_support_rows", metric_labels, float(row.n))
        values = {
            "": row.value,
            "_ci_lower": row.ci_low,
            "_ci_upper": row.ci_high,
            "_floor": row.threshold,
        }
        for sibling, value in values.items():
            if value is not None:
                yield Sample(f"modelwatch_class_recall{sibling}_ratio", metric_labels, value)
