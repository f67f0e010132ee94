"""Edges, frozen from a reference; they never depend on what is compared with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.profiles.columns import Kind, ManyClasses, Output, parts_of

Floats = NDArray[np.float64]

# Of the score histograms of one slice; a binary model's has a third of it.
MOST_SLICE_CELLS = 32_768


@dataclass(frozen=True, slots=True, eq=False)
class NumericBins:
    """Bins of a numeric column: atoms, fine quantile bins, and below and above the reference.

    A value equal to an atom counts there and nowhere else.  Bin order of the counts, shape
    ``(n_bins,)``: ``below`` (< minimum), the ``len(edges) - 1`` fine bins (left-closed, the last
    closed), ``above`` (> maximum), then one bin for each atom.

    ``edges`` are ascending and unique, from ``minimum`` to ``maximum`` of the whole reference
    column (a new value between an atom and its neighbour needs a bin), with quantiles of the values
    that are no atoms in between: 1, 2, 4, 8, 16 or 32 fine bins, so that halving groups neighbours.
    Both arrays may be empty (constant column: one atom; all missing: neither).
    """

    edges: Floats
    atoms: Floats
    minimum: float | None
    maximum: float | None

    @property
    def n_bins(self) -> int:
        """Return the number of bins, missing excluded."""
        return 2 + max(len(self.edges) - 1, 0) + len(self.atoms)


@dataclass(frozen=True, slots=True)
class CategoricalBins:
    """Bins of a categorical or boolean column: the reference's top categories, other, unseen.

    Bin order of the counts: one for each of ``categories`` (at most 256, most frequent first),
    ``other`` (in the reference, but not among the top), ``unseen`` (not in the reference).
    ``rest`` holds the names that count as ``other``.  ``singletons`` and ``doubletons`` are how
    many of all names the reference has exactly once and twice: they tell how many it has never.
    Boolean columns have the categories ``("false", "true")`` as far as the reference has them.
    """

    categories: tuple[str, ...]
    rest: frozenset[str]
    singletons: int = 0
    doubletons: int = 0

    @property
    def n_bins(self) -> int:
        """Return the number of bins, missing excluded."""
        return len(self.categories) + 2


def is_of_kind(bins: NumericBins | CategoricalBins, kind: Kind) -> bool:
    """Say whether a column of that kind has such edges: numbers have numeric ones, and only they.

    Examples
    --------
    >>> is_of_kind(CategoricalBins(("a", "b"), frozenset()), Kind.NUMERIC)
    False
    """
    return isinstance(bins, NumericBins) == (kind is Kind.NUMERIC)


@dataclass(frozen=True, slots=True)
class Source:
    """A feature that other columns are derived from, and that itself is only there or missing.

    ``words`` are those that count as known in a text, in lower case and sorted; they are frozen
    together with the edges.
    """

    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Binning:
    """All the edges of one model: per feature, for the prediction and for the score.

    ``score_edges`` are the inner edges of the score histogram, ascending, shape ``(m,)``, for
    ``m + 1`` bins: 2,048 logit bins with the reference's quantiles among them.  ``score_bins`` bins
    the score like a numeric feature, for drift; the scores of many classes share the edges, and for
    drift each is one of the ``columns``.  Where the ``output`` is a number there is no
    score: no edges, and one bin without rows.  ``sources`` are the features of which ``columns``
    holds derived columns instead.
    """

    columns: Mapping[str, NumericBins | CategoricalBins]
    output: Output
    score_edges: Floats
    score_bins: NumericBins | None
    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def slice_edges(self) -> Floats:
        """Return the inner edges of the score histograms of slices: all, or every so manieth.

        There may be 200 slices, and each has histograms of every one of many classes.
        """
        if not isinstance(self.output, ManyClasses):
            return self.score_edges
        most = MOST_SLICE_CELLS // (4 * len(self.output.names))
        return self.score_edges[:: -(-len(self.score_edges) // most) or 1]

    @property
    def parts(self) -> dict[str, str]:
        """Return the feature of each derived column."""
        return {
            part.name: name
            for name, source in self.sources.items()
            for part in parts_of(name, source.kind)
        }
