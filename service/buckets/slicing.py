"""From the slices that a monitor document declares to the rows that are in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.buckets.predicates import rows_where
from service.profiles.arrays import find_array, to_text
from service.profiles.binning import Binning, CategoricalBins
from service.profiles.slices import UNRANKED, Member, SliceProfile, keep_ranked, profile_slices
from service.registry.monitor import MonitorDocument
from service.registry.predicates import columns_of, parse
from service.registry.slicing import JOIN, MOST_SLICES

Codes = NDArray[np.int64]
FAMILY = "slices"


@dataclass(frozen=True)
class Slicing:
    """Which slices a model has: by the values of columns, and by named predicates."""

    by_value: tuple[tuple[str, ...], ...]
    by_predicate: tuple[tuple[str, str], ...]

    @property
    def is_empty(self) -> bool:
        """Say whether there is none."""
        return not self.by_value and not self.by_predicate

    @property
    def family(self) -> str:
        """Return under which family profiles of just these slices are kept."""
        declared = json.dumps([self.by_value, self.by_predicate]).encode()
        return f"{FAMILY}:{blake2b(declared, digest_size=8).hexdigest()}"

    @cached_property
    def reads(self) -> frozenset[str]:
        """Return every column that tells which rows are in a slice."""
        found = {column for columns in self.by_value for column in columns}
        return frozenset(found).union(*(columns_of(parse(text)) for _, text in self.by_predicate))

    @property
    def limits(self) -> dict[tuple[str, ...], int]:
        """Return the most slices of each declaration by value, so that all are at most 200."""
        if not self.by_value:
            return {}
        each = (MOST_SLICES - len(self.by_predicate)) // len(self.by_value)
        return dict.fromkeys(self.by_value, max(each, 1))

    def profile(self, rows: pa.Table, binning: Binning) -> dict[str, SliceProfile]:
        """Summarise the slices of some rows."""
        members = {
            name: Member((), 0, rows_where(rows, parse(text))) for name, text in self.by_predicate
        }
        for columns in self.by_value:
            members.update(_by_value(rows, columns, binning, self.limits))
        return profile_slices(rows, members, binning)


UNSLICED = Slicing((), ())


def slicing_of(document: MonitorDocument) -> Slicing:
    """Return the slices of a document; the groups of a protected column are slices as well."""
    by_value = [declared.column for declared in document.slices if declared.column]
    by_value += [(declared.column,) for declared in document.fairness]
    by_predicate = {
        declared.name: declared.where
        for declared in document.slices
        if declared.name is not None and declared.where is not None
    }
    return Slicing(tuple(sorted(set(by_value))), tuple(sorted(by_predicate.items())))


def _by_value(
    rows: pa.Table,
    columns: tuple[str, ...],
    binning: Binning,
    limits: Mapping[tuple[str, ...], int],
) -> dict[str, Member]:
    codes = np.zeros(rows.num_rows, np.int64)
    values: list[tuple[str, int]] = [("", 0)]
    for column in columns:
        own, names = _values(rows, column)
        ranks = _ranks(column, binning)
        known = (codes >= 0) & (own >= 0)
        joined = np.where(known, codes * max(len(names), 1) + own, -1)
        # Only combinations that occur are kept: crossing columns would multiply their values.
        distinct, codes = np.unique(joined, return_inverse=True)
        missing = int(len(distinct) > 0 and distinct[0] < 0)
        codes = codes.astype(np.int64).ravel() - missing
        values = [
            _extend(values[pair // len(names)], column, names[pair % len(names)], ranks)
            for pair in distinct[missing:].tolist()
        ]
    kept = keep_ranked(((name, columns, rank) for name, rank in values), limits)
    return {
        name: Member(columns, rank, codes == code)
        for code, (name, rank) in enumerate(values)
        if name in kept
    }


def _extend(
    before: tuple[str, int], column: str, value: str, ranks: Mapping[str, int]
) -> tuple[str, int]:
    name, rank = before
    joined = f"{name}{JOIN}" if name else ""
    return f"{joined}{column}={value}", max(rank, ranks.get(value, UNRANKED))


def _values(rows: pa.Table, column: str) -> tuple[Codes, list[str]]:
    """Return the position of each row's value among the distinct ones, -1 for null."""
    array = find_array(rows, column)
    if array is None or not _has_groups(array.type):
        return np.full(rows.num_rows, -1, np.int64), []
    if pa.types.is_floating(array.type):
        # -0.0 is 0, and what is not a number is no value.
        array = pc.if_else(pc.is_finite(array), pc.add(array, 0.0), pa.scalar(None, array.type))
    encoded = to_text(array).dictionary_encode()
    codes: Codes = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)
    return codes, encoded.dictionary.to_pylist()


def _has_groups(kind: pa.DataType) -> bool:
    """Say whether a column has values that many rows share; times and vectors have none."""
    is_odd = (pa.types.is_null, pa.types.is_temporal, pa.types.is_nested)
    return not any(is_kind(kind) for is_kind in is_odd)


def _ranks(column: str, binning: Binning) -> dict[str, int]:
    bins = binning.columns.get(column)
    if not isinstance(bins, CategoricalBins):
        return {}
    return {name: rank for rank, name in enumerate(bins.categories)}
