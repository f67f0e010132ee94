"""Columns of Arrow tables as Evidently can bear them: cast, finite, capped (pandas only)."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.detection.evidently_methods import METHODS, Method
from service.profiles.columns import Column, Kind

if TYPE_CHECKING:
    import pandas as pd

TARGETS = (Column("prediction", Kind.CATEGORICAL), Column("score", Kind.NUMERIC))


def with_targets(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns, and those of the model's output that are not among them."""
    names = {column.name for column in columns}
    return (*columns, *(target for target in TARGETS if target.name not in names))


OTHER = "(other)"
MAX_CATEGORIES = 1_000


def values_of(table: pa.Table, column: Column) -> "pd.Series[Any] | None":
    """Return the column's values, or None if the table does not have it.

    Parameters
    ----------
    table
        Rows under the features' real names.
    column
        Which column, and how to read it.

    Returns
    -------
    pandas.Series or None
        Finite ``float64`` for a numeric column, otherwise strings; shape ``(n_values,)``, without
        the missing ones, which Evidently would drop from one metric and choke on in the next.
    """
    import pandas as pd

    if column.name not in table.column_names:
        return None
    chunks = table.column(column.name)
    if column.kind is Kind.NUMERIC:
        numbers = chunks.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return pd.Series(numbers[np.isfinite(numbers)], dtype="float64", name=column.name)
    texts = chunks.cast(pa.string()) if not pa.types.is_string(chunks.type) else chunks
    return pd.Series(pc.drop_null(texts).to_pylist(), dtype="object", name=column.name)


def thinned(values: "pd.Series[Any]", rows: int) -> "pd.Series[Any]":
    """Return at most ``rows`` values, evenly spaced, so that a sample in time order keeps its span.

    Examples
    --------
    >>> import pandas as pd
    >>> thinned(pd.Series([0.0, 1.0, 2.0, 3.0]), 2).tolist()
    [0.0, 2.0]
    """
    if len(values) <= rows:
        return values
    picked = np.arange(rows) * len(values) // rows
    return values.iloc[picked].reset_index(drop=True)


def with_other(
    reference: "pd.Series[Any]",
    current: "pd.Series[Any]",
    keep: int = MAX_CATEGORIES,
    fewest: int = 0,
) -> "tuple[pd.Series[Any], pd.Series[Any]]":
    """Fold all but the reference's and current's most frequent categories into ``(other)``.

    Evidently is quadratic in categories that only one side has.

    Parameters
    ----------
    reference, current
        Strings without missing ones.
    keep
        How many categories stay themselves.
    fewest
        How many rows of either side such a category has at least.
    """
    before, now = Counter(reference), Counter(current)
    counts = before + now
    shown = {name for name in counts if max(before[name], now[name]) >= fewest}
    if len(counts) <= keep and len(shown) == len(counts):
        return reference, current
    # Ties by name: the same rows in another order must give the same score.
    ranked = sorted(shown, key=lambda name: (-counts[name], name))
    kept = set(ranked[:keep])
    return (
        reference.where(reference.isin(kept), OTHER),
        current.where(current.isin(kept), OTHER),
    )


Pair = tuple["pd.Series[Any]", "pd.Series[Any]"]


def pair_of(reference: pa.Table, current: pa.Table, column: Column, method: Method) -> Pair | None:
    """Return both sides' values as a test takes them; None where the column cannot be read."""
    try:
        sides = values_of(reference, column), values_of(current, column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # The column changed its type between the sides.
        return None
    if sides[0] is None or sides[1] is None:
        return None
    rows = method.max_rows
    if method.equal_sides:
        rows = min(rows, len(sides[0]), len(sides[1]))
    thin = thinned(sides[0], rows), thinned(sides[1], rows)
    return thin if column.kind is Kind.NUMERIC else with_other(*thin)


def obstacle_to(column: Column, name: str, pair: Pair, min_rows: int) -> str | None:
    """Return why a test would say nothing of these values, or None."""
    before, now = pair
    if column.kind not in METHODS[name].kinds:
        return "method_does_not_apply"
    if before.empty or now.empty:
        return "no_values"
    if min(len(before), len(now)) < min_rows:
        return "too_few_rows"
    if name == "wasserstein" and before.min() == before.max() and now.min() < now.max():
        # It divides by the reference's standard deviation, or by .001 where that is zero.
        return "constant_reference"
    return None
