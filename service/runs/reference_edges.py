"""Which edges a new reference is profiled with."""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from service.profiles.arrays import SCORES, output_columns
from service.profiles.binning import Binning, CategoricalBins, NumericBins, Source, is_of_kind
from service.profiles.build import profile_features
from service.profiles.columns import Column, Kind, Output
from service.profiles.derive import derive
from service.profiles.freeze import TOP_CATEGORIES, freeze_binning
from service.profiles.profile import ColumnProfile

# Edges that leave more of a new reference outside than this no longer describe it.
OUTSIDE_SHARE = 0.01
# A quantile bin held 1/32 of the rows that it was made from.
CROWDED_SHARE = 0.25


def choose_edges(
    known: Binning | None, rows: pa.Table, columns: Sequence[Column], output: Output
) -> Binning:
    """Keep the model's edges, so that windows stay comparable, as far as they fit the reference.

    Returns ``known`` itself where nothing has changed.  Otherwise columns that are new, of
    another kind, or no longer described by their edges are frozen on this reference, and the
    others keep theirs.
    """
    if known is None or known.output != output:
        return freeze_binning(rows, columns, output)
    # Numbers that a model predicts get stale like a feature's; classes are declared.
    numbers = [column for column in output_columns(output) if column.kind is Kind.NUMERIC]
    derived, expanded = derive(rows, columns, known.sources)
    stale, new_score = _outdated(known, derived, [*expanded, *numbers])
    absent = {column.name for column in (*expanded, *numbers)} - set(known.columns)
    if not (stale or absent or new_score):
        return known
    fresh = freeze_binning(rows, [*columns, *numbers], output)
    sources = _sources(known, fresh, stale)
    # What was derived from another kind, or with other words, is not what is derived now.
    changed = {part for part, own in known.parts.items() if sources.get(own) != known.sources[own]}
    kept = {
        name: bins
        for name, bins in known.columns.items()
        if name not in stale | changed
        and name not in fresh.sources
        and _still_fits(name, bins, [*expanded, *numbers])
    }
    return Binning(
        {**fresh.columns, **kept},
        output,
        fresh.score_edges if new_score else known.score_edges,
        fresh.score_bins if new_score else known.score_bins,
        sources,
    )


def _outdated(known: Binning, rows: pa.Table, columns: Sequence[Column]) -> tuple[set[str], bool]:
    """Return the columns that their edges no longer describe, and whether the score's do not."""
    wanted = {column.name: column for column in columns if column.name in rows.column_names}
    fitting = [column for column in columns if _has_kind(known, column)]
    profile = profile_features(rows, fitting, known)
    stale = {
        name
        for name, column in wanted.items()
        if column not in fitting or _is_stale(known.columns[name], profile.columns[name])
    }
    scored = profile.columns.get("score")
    new_score = "score" in rows.column_names and (
        known.score_bins is None or (scored is not None and _is_stale(known.score_bins, scored))
    )
    return stale, new_score or any(name.startswith(SCORES) for name in stale)


def _sources(known: Binning, fresh: Binning, stale: Collection[str]) -> dict[str, Source]:
    """Return what deriving knows: words are learnt anew only where too many are not known."""
    sources = {
        # A feature of this name may be one of another kind now.
        name: source
        for name, source in known.sources.items()
        if name not in fresh.columns
    }
    for name, source in fresh.sources.items():
        before = sources.get(name)
        if before is None or before.kind != source.kind or f"{name}.oov" in stale:
            sources[name] = source
    return sources


def derive_reference(
    rows: pa.Table, columns: Sequence[Column], edges: Binning, known: Binning | None
) -> pa.Table:
    """Return the reference with all its derived columns, once instead of piece by piece."""
    before = {} if known is None else known.sources
    learnt = {name for name, source in edges.sources.items() if before.get(name) is not source}
    return derive(rows, columns, edges.sources, learnt=learnt)[0]


def _has_kind(known: Binning, column: Column) -> bool:
    bins = known.columns.get(column.name)
    return bins is not None and is_of_kind(bins, column.kind)


def _still_fits(name: str, bins: NumericBins | CategoricalBins, columns: Sequence[Column]) -> bool:
    """Say whether no column of this version needs other edges; other versions' may be kept."""
    kinds = [column.kind for column in columns if column.name == name]
    return all(is_of_kind(bins, kind) for kind in kinds)


def _is_stale(bins: NumericBins | CategoricalBins, profile: ColumnProfile) -> bool:
    rows = int(profile.counts.sum())
    if not rows:
        return False
    if isinstance(bins, NumericBins):
        fine = profile.counts[1 : 1 + max(len(bins.edges) - 1, 0)]
        above = int(profile.counts[1 + len(fine)])
        outside = int(profile.counts[0]) + above
        crowded = len(fine) > 1 and float(np.max(fine)) > CROWDED_SHARE * rows
        return outside > OUTSIDE_SHARE * rows or crowded
    # A column of thousands of categories has rare ones that no other sample shows.
    full = len(bins.categories) >= TOP_CATEGORIES
    return not full and int(profile.counts[-1]) > OUTSIDE_SHARE * rows
