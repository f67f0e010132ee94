"""Search for the subpopulation that got worse: conjunctions of up to three predicates.

Rows and losses of all pairs of predicates come from products of matrices, as in S. Sagadeeva and
M. Boehm, "SliceLine: fast, linear-algebra-based slice finding for ML model debugging", 2021.
Unlike theirs a slice is scored by what it lost against the same slice of a reference and against
all other rows, and predicates are ranges, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.detection.predicates import Codes, Mask, Vocabulary
from service.profiles.profile import Floats

MOST_PREDICATES = 3
# A further predicate must be worth as many standard errors: chance finds one among hundreds.
PRICE = 1.0
# What is not this far from chance is not worth a test on the other half.
LEAST_SCORE = 1.5
BEAM = 30
FEWEST_IN_BIN = 10
MOST_PRIOR = 1e6

Slice = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Rows as the codes of their values, shape ``(n, n_features)``, with a loss each, ``(n,)``."""

    codes: Codes
    loss: Floats

    def part(self, rows: Mask | NDArray[np.int64]) -> "Losses":
        """Return some of the rows."""
        return Losses(self.codes[rows], self.loss[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Rows, Σ loss and Σ loss² of slices, all of one shape, and of all rows, shape ``(3,)``."""

    n: Floats
    loss: Floats
    square: Floats
    total: Floats

    def of(self, members: Floats) -> "Sums":
        """Return the sums of every two predicates from those of every two bins."""
        n, loss, square = (members @ part @ members.T for part in (self.n, self.loss, self.square))
        return Sums(n, loss, square, self.total)

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(
            self.n - other.n,
            self.loss - other.loss,
            self.square - other.square,
            self.total - other.total,
        )


def find_worse_slices(
    vocabulary: Vocabulary,
    before: Losses,
    now: Losses,
    *,
    min_rows: int,
    most: int = 3,
    most_predicates: int = MOST_PREDICATES,
) -> list[Slice]:
    """Return the slices whose loss rose most, against themselves and against all other rows.

    Parameters
    ----------
    vocabulary
        The predicates.
    before, now
        Rows of the reference and of the window; what is found must be tested on others.
    min_rows
        The fewest rows of a slice, and of the rest, in the window.
    most
        How many slices; each is looked for among the rows that are in none before it.
    most_predicates
        1 to 3 in one slice; one more has to be worth a standard error.

    Returns
    -------
    list of Slice
        Positions of predicates, ascending; worst first.  Empty if nothing is even 1.5 standard
        errors worse.
    """
    found: list[Slice] = []
    if not vocabulary.size:
        return found
    search = _Search(vocabulary, min_rows, most_predicates, prior_rows(vocabulary, before))
    joint_before, joint_now = search.joint(before), search.joint(now)
    while len(found) < most:
        best = search.worst(before, now, joint_before, joint_now)
        if best is None:
            break
        found.append(best)
        inside_before, inside_now = (vocabulary.mask(side.codes, best) for side in (before, now))
        joint_before -= search.joint(before.part(inside_before))
        joint_now -= search.joint(now.part(inside_now))
        before, now = before.part(~inside_before), now.part(~inside_now)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What does not change from one slice to the next."""

    vocabulary: Vocabulary
    min_rows: int
    most_predicates: int
    prior: float

    def worst(
        self, before: Losses, now: Losses, joint_before: Sums, joint_now: Sums
    ) -> Slice | None:
        """Return the slice with the best score less its price, if it is worth a test."""
        members = self.vocabulary.members
        score = self._score(joint_now.of(members), joint_before.of(members))
        single = np.eye(self.vocabulary.size, dtype=np.bool_)
        other = -np.inf if self.most_predicates == 1 else score - PRICE
        score = np.where(single, score, other)
        ranked = _ranked(score, 4 * BEAM)
        best, value = ranked[0], float(score[ranked[0][0], ranked[0][-1]])
        if self.most_predicates == MOST_PREDICATES:
            pairs = [pair for pair in ranked if len(pair) > 1][:BEAM]
            deeper, worth = self._extend(before, now, pairs)
            if worth > value:
                best, value = deeper, worth
        return best if value >= LEAST_SCORE else None

    def joint(self, rows: Losses) -> Sums:
        """Return the sums of every two bins, shape ``(n_bins, n_bins)``."""
        bins = _one_hot(self.vocabulary, rows)
        return _sums(((bins * weight[:, None]).T @ bins for weight in _weights(rows)), rows)

    def _score(self, now: Sums, before: Sums) -> Floats:
        return excess_score(now, before, self.min_rows, self.prior)

    def _extend(self, before: Losses, now: Losses, pairs: Sequence[Slice]) -> tuple[Slice, float]:
        """Return the best slice of three predicates that extends a pair, with its score."""
        if not pairs:
            return (), -np.inf
        score = self._score(self._extended(now, pairs), self._extended(before, pairs)) - 2 * PRICE
        at, third = np.unravel_index(int(np.argmax(score)), score.shape)
        return tuple(sorted({*pairs[int(at)], int(third)})), float(score[at, third])

    def _extended(self, rows: Losses, pairs: Sequence[Slice]) -> Sums:
        bins = _one_hot(self.vocabulary, rows)
        masks = np.array([self.vocabulary.mask(rows.codes, pair) for pair in pairs], np.float32)
        members = self.vocabulary.members.T
        return _sums(((masks * weight) @ bins @ members for weight in _weights(rows)), rows)


def _ranked(score: Floats, most: int) -> list[Slice]:
    """Return the best cells of a symmetric table, ties in order of position."""
    most = min(most, score.size)
    top = np.argpartition(-score, most - 1, axis=None)[:most]
    top = top[np.lexsort((top, -score.ravel()[top]))]
    cells = np.stack(np.unravel_index(top, score.shape), axis=1).tolist()
    return [*dict.fromkeys(tuple(sorted(set(cell))) for cell in cells)]


def _one_hot(vocabulary: Vocabulary, rows: Losses) -> NDArray[np.float32]:
    table = np.zeros((len(rows.loss), vocabulary.n_bins), np.float32)
    at = np.arange(len(rows.loss))
    for feature, offset in enumerate(vocabulary.offsets):
        table[at, offset + rows.codes[:, feature]] = 1
    return table


def _weights(rows: Losses) -> list[NDArray[np.float32]]:
    """Return what rows count with: 1, their loss, and its square unless that is the same."""
    loss = rows.loss.astype(np.float32)
    ones = np.ones_like(loss)
    return [ones, loss] if ((loss == 0) | (loss == 1)).all() else [ones, loss, loss**2]


def _sums(parts: Iterable[NDArray[Any]], rows: Losses) -> Sums:
    n, loss, *square = (part.astype(np.float64) for part in parts)
    return Sums(n, loss, square[0] if square else loss, _total(rows))


def _total(rows: Losses) -> Floats:
    return np.array([len(rows.loss), rows.loss.sum(), (rows.loss**2).sum()])


def sums_of(rows: Losses, chosen: Mask) -> Sums:
    """Return the sums of the chosen rows, and of all."""
    n, loss, square = (np.array(part) for part in _total(rows.part(chosen)))
    return Sums(n, loss, square, _total(rows))


def excess_score(now: Sums, before: Sums, min_rows: float, prior: float) -> Floats:
    """Return by how many standard errors slices lost more than they had, and than the rest did.

    Parameters
    ----------
    now, before
        Of the same slices.
    min_rows
        A slice with fewer rows in the window, or with so few others, has -inf.
    prior
        For how many rows the mean over all counts in what a slice's loss was; 0 for a test.

    Returns
    -------
    Floats
        The smaller of both scores.  A row's variance is taken halfway between window and reference,
        so that shares are scored about as their arcsine would be.

    Examples
    --------
    >>> then = Sums(*np.array([[100.0], [10.0], [10.0]]), np.array([1e6, 1e5, 1e5]))
    >>> now = Sums(*np.array([[100.0], [30.0], [30.0]]), np.array([1e6, 1e5, 1e5]))
    >>> excess_score(now, then, 1, 0.0).round(2).tolist()  # .2 / sqrt((.21 + .09) / 2 * 2 / 100)
    [3.65]
    """
    rest_now, rest_before = _rest(now), _rest(before)
    fewest = np.minimum(now.n, rest_now.n)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise, error = _rise(now, before, prior)
        rest, rest_error = _rise(rest_now, rest_before, prior)
        score = np.minimum(rise / np.sqrt(error), (rise - rest) / np.sqrt(error + rest_error))
    found: Floats = np.where((fewest >= min_rows) & np.isfinite(score), score, -np.inf)
    return found


def _rest(sums: Sums) -> Sums:
    n, loss, square = sums.total
    return Sums(n - sums.n, loss - sums.loss, square - sums.square, sums.total)


def _rise(now: Sums, before: Sums, prior: float) -> tuple[Floats, Floats]:
    """Return the rise of the mean loss, and its variance."""
    n, loss, square = before.total
    rows = before.n + prior
    then = (before.loss + prior * loss / n) / rows
    mean = now.loss / now.n
    own = np.maximum(now.square / now.n - mean**2, 0.0)
    spread = np.maximum((before.square + prior * square / n) / rows - then**2, 0.0)
    return mean - then, (own + spread) / 2 * (1 / now.n + 1 / rows)


def prior_rows(vocabulary: Vocabulary, before: Losses) -> float:
    """Return for how many rows the mean loss counts in the loss of a slice of the reference.

    Parameters
    ----------
    vocabulary
        Whose bins are compared.
    before
        Rows of the reference.

    Returns
    -------
    float
        Very many where all bins lose alike, few where they differ: the variance of a row's loss by
        the variance between bins, summed over the features in which it is significant.

    References
    ----------
    B. Efron and C. Morris, "Data analysis using Stein's estimator and its generalizations", 1975.
    """
    variance = float(before.loss.var()) if len(before.loss) else 0.0
    between = 0.0
    for feature, axis in enumerate(vocabulary.axes):
        codes = before.codes[:, feature]
        n = np.bincount(codes, minlength=axis.n_bins).astype(np.float64)
        loss = np.bincount(codes, before.loss, axis.n_bins)
        n, loss = n[n >= FEWEST_IN_BIN], loss[n >= FEWEST_IN_BIN]
        freedom = len(n) - 1
        if freedom < 1 or variance <= 0:
            continue
        center = loss.sum() / n.sum()
        disagreement = float((n * (loss / n - center) ** 2).sum()) / variance
        if disagreement > freedom + 2 * np.sqrt(2 * freedom):
            scale = n.sum() - (n**2).sum() / n.sum()
            between += variance * (disagreement - freedom) / float(scale)
    return variance / between if between > 0 else MOST_PRIOR
