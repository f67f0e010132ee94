"""What is odd about a reference, though it can be used."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from service.detection.redundancy import find_redundant
from service.profiles.freeze import TOP_CATEGORIES
from service.registry.values import VersionSpec

SMALL_REFERENCE = 1_000
# Twenty columns that are all the same make 190 pairs.
MOST_REDUNDANT = 50
# A category of more characters is hardly one; nor are rows that nearly all differ.
LONG_CATEGORY, MOSTLY, FEWEST_TEXTS = 40, 0.5, 20


def find_warnings(rows: pa.Table, version: VersionSpec) -> list[dict[str, Any]]:
    """List what is odd, the whole reference first, then column by column."""
    attributed = [own.name for own in version.attributions]
    found = [*_of_rows(rows, version.task), *_of_columns(rows, version)]
    kinds = {feature.name: feature.kind for feature in version.features}
    found += [
        {"code": "redundant-features", "column": column, "same_as": other}
        for column, other in find_redundant(rows, kinds)[:MOST_REDUNDANT]
    ]
    if attributed and not set(attributed) & set(rows.column_names):
        found.append({"code": "no-attributions"})
    return found


def _of_rows(rows: pa.Table, task: str) -> Iterator[dict[str, Any]]:
    if rows.num_rows < SMALL_REFERENCE:
        yield {"code": "small-reference", "rows": rows.num_rows}
    for name, none, some in (
        ("label", "no-labels", None),
        ("score", "no-scores", "rows-without-score"),
        ("prediction", "no-predictions", "rows-without-prediction"),
        ("ts", "no-times", "rows-without-time"),
    ):
        if name == "score" and task != "binary":
            continue
        without = rows[name].null_count if name in rows.column_names else rows.num_rows
        if without == rows.num_rows:
            yield {"code": none}
        elif without and some is not None:
            yield {"code": some, "rows": without}


def _of_columns(rows: pa.Table, version: VersionSpec) -> Iterator[dict[str, Any]]:
    for feature in version.features:
        if feature.name not in rows.column_names:
            yield {"code": "missing-column", "column": feature.name}
            continue
        column = rows[feature.name]
        if column.null_count == rows.num_rows:
            yield {"code": "all-missing", "column": feature.name}
        if column.null_count == rows.num_rows or feature.kind == "embedding":
            continue
        distinct = pc.count_distinct(column, mode="only_valid").as_py()
        if distinct == 1 and column.null_count == 0:
            yield {"code": "constant-column", "column": feature.name}
        elif feature.kind == "categorical":
            if distinct > TOP_CATEGORIES:
                yield {"code": "high-cardinality", "column": feature.name}
            if _looks_like_text(pc.drop_null(column), distinct):
                yield {"code": "looks-like-text", "column": feature.name}


def _looks_like_text(values: pa.ChunkedArray, distinct: int) -> bool:
    """Say whether categories are sentences: long, or with spaces and mostly different."""
    if distinct < FEWEST_TEXTS:
        return False
    if pc.mean(pc.utf8_length(values)).as_py() > LONG_CATEGORY:
        return True
    spaced = pc.mean(pc.match_substring(values, " ").cast(pa.float64())).as_py()
    return distinct > len(values) * MOSTLY and spaced > MOSTLY
