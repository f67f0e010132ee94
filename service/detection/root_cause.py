"""What a loss comes from: features whose values moved, and slices whose own loss rose."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.detection.discovery import Losses, excess_score, sums_of
from service.detection.predicates import Codes, Mask, Vocabulary
from service.profiles.profile import Floats

FEATURE, SLICE = "feature", "slice"
DRAWS = 400
FEWEST_IN_BIN = 10
# Among hundreds of predicates chance reaches three and a half standard errors.
LEAST_SCORE = 4.0
LEAST_SHARE = 0.1
MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """How much of a loss one feature's shift, or one slice, accounts for.

    ``share`` is of the whole rise of the loss, with a 95 % interval; it may be over 1 where other
    rows got better.  ``rows`` is the slice's share of the window's rows, 1 for a feature; ``n``
    those rows.
    """

    kind: str
    name: str
    share: float
    ci_low: float
    ci_high: float
    rows: float
    n: int

    @property
    def excess(self) -> float:
        """Return the share beyond that of a slice's rows."""
        return self.share - (self.rows if self.kind == SLICE else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Disjoint cells of rows: how many, their mean loss and its standard error."""

    n: Floats
    mean: Floats
    error: Floats

    def draw(self, draw: np.random.Generator) -> tuple[Floats, Floats]:
        """Return shares and mean losses as they might have been, shape ``(DRAWS, n_cells)``."""
        shares = draw.multinomial(int(self.n.sum()), self.n / self.n.sum(), DRAWS) / self.n.sum()
        return shares, draw.normal(self.mean, self.error, (DRAWS, len(self.n)))


def explain_loss(
    vocabulary: Vocabulary,
    before: Losses,
    now: Losses,
    slices: Mapping[str, tuple[Mask, Mask]],
    draw: np.random.Generator,
) -> list[Contribution]:
    """Decompose the rise of the mean loss, and rank what accounts for it.

    With shares p and q of a feature's bins in the reference and in the window, and their mean
    losses L and M, the rise is Σ (q - p) L, which is the feature's shift, plus Σ q (M - L), the
    loss within its bins.  Features that move together are each given what they share.  Of a slice
    it is q (M - L), the loss that it would not have had as it was; one that has no more of the loss
    than of the rows explains nothing.

    Parameters
    ----------
    vocabulary
        The features' bins, and the predicates that are slices by themselves.
    before, now
        Rows of the reference and of the window with the same loss, realised or estimated.
    slices
        Others by name: their rows in the reference and in the window.
    draw
        For the intervals, by parametric bootstrap over bins.

    Returns
    -------
    list of Contribution
        At most five, largest first, each with at least a tenth of the loss beyond its rows' share,
        and an interval that does not reach 0 (of a slice: its rows' share).  Empty if the loss did
        not rise, or if nothing by itself explains it.

    References
    ----------
    E. M. Kitagawa, "Components of a difference between two rates", 1955.  R. Oaxaca, "Male-female
    wage differentials in urban labor markets", 1973.  A. S. Blinder, "Wage discrimination", 1973.
    """
    if not len(before.loss) or not len(now.loss) or now.loss.mean() <= before.loss.mean():
        return []
    found = [
        _of_feature(vocabulary, feature, before, now, draw)
        for feature in range(len(vocabulary.axes))
    ]
    found = [one for one in found if one.share >= LEAST_SHARE and one.ci_low > 0]
    members = _single_slices(vocabulary, before, now)
    for name, (then, at) in [*slices.items(), *members]:
        one = _of_slice(name, before, now, then, at, draw)
        if one.excess >= LEAST_SHARE and one.ci_low > one.rows:
            found.append(one)
    unique = {(one.kind, one.name): one for one in found}
    ranked = sorted(unique.values(), key=lambda one: (-one.excess, one.name))
    return ranked[:MOST]


def _of_feature(
    vocabulary: Vocabulary, feature: int, before: Losses, now: Losses, draw: np.random.Generator
) -> Contribution:
    size = vocabulary.axes[feature].n_bins
    old, new = (_cells(side, side.codes[:, feature], size) for side in (before, now))
    share = shift_of(old.n / old.n.sum(), new.n / new.n.sum(), old.mean)
    rise = float(now.loss.mean() - before.loss.mean())
    (p, then), (q, at) = old.draw(draw), new.draw(draw)
    low, high = _interval(((q - p) * then).sum(1), (q * at).sum(1) - (p * then).sum(1))
    n = len(now.loss)
    name = vocabulary.axes[feature].name
    return Contribution(
        kind=FEATURE, name=name, share=share / rise, ci_low=low, ci_high=high, rows=1.0, n=n
    )


def shift_of(before: Floats, now: Floats, loss: Floats) -> float:
    """Return Σ (q - p) L, the rise of the mean loss that moving rows between bins makes.

    Examples
    --------
    >>> shift_of(np.array([0.5, 0.5]), np.array([0.1, 0.9]), np.array([0.1, 0.3]))
    0.08
    """
    return round(float(((now - before) * loss).sum()), 12)


def _of_slice(
    name: str, before: Losses, now: Losses, then: Mask, at: Mask, draw: np.random.Generator
) -> Contribution:
    old = _cells(before, then.astype(np.int16), 2)
    new = _cells(now, at.astype(np.int16), 2)
    rows = float(at.mean())
    rise = float(now.loss.mean() - before.loss.mean())
    (p, loss), (q, lost) = old.draw(draw), new.draw(draw)
    low, high = _interval(
        q[:, 1] * (lost[:, 1] - loss[:, 1]), (q * lost).sum(1) - (p * loss).sum(1)
    )
    share = rows * float(new.mean[1] - old.mean[1]) / rise
    n = int(at.sum())
    return Contribution(
        kind=SLICE, name=name, share=share, ci_low=low, ci_high=high, rows=rows, n=n
    )


def _cells(rows: Losses, codes: Codes, size: int) -> _Cells:
    n = np.bincount(codes, minlength=size).astype(np.float64)
    loss, square = (np.bincount(codes, part, size) for part in (rows.loss, rows.loss**2))
    # Of a bin with hardly any rows nothing is known but what is known of all.
    known = n >= FEWEST_IN_BIN
    divisor = np.where(known, n, 1.0)
    mean = np.where(known, loss / divisor, rows.loss.mean())
    spread = np.maximum(np.where(known, square / divisor - mean**2, 0.0), 0.0)
    return _Cells(n, mean, np.sqrt(spread / divisor))


def _interval(parts: Floats, wholes: Floats) -> tuple[float, float]:
    """Return the 95 % interval of a share whose whole might have been small."""
    shares = parts / np.maximum(wholes, np.abs(wholes).mean() * 1e-3)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def _single_slices(
    vocabulary: Vocabulary, before: Losses, now: Losses
) -> list[tuple[str, tuple[Mask, Mask]]]:
    """Return the predicates that got worse beyond doubt, without those that overlap a worse one."""
    scored = []
    for position in range(vocabulary.size):
        then, at = (vocabulary.mask(side.codes, [position]) for side in (before, now))
        score = float(excess_score(sums_of(now, at), sums_of(before, then), FEWEST_IN_BIN, 0.0))
        if score >= LEAST_SCORE:
            scored.append((score, position, then, at))
    kept: list[tuple[str, tuple[Mask, Mask]]] = []
    for _, position, then, at in sorted(scored, key=lambda one: (-one[0], one[1])):
        if all((at & other).sum() < at.sum() / 2 for _, (_, other) in kept):
            kept.append((vocabulary.describe([position]), (then, at)))
    return kept


def sentence_of(one: Contribution) -> str:
    """Return what one contribution says; more than the whole, where the rest improved, is all."""
    share = f"{100 * min(one.share, 1):.0f} %"
    if one.kind == FEATURE:
        return f"the shift of {one.name} explains {share} of the rise of the loss"
    rows = f"{100 * one.rows:.1f} %"
    return f"{one.name} is {rows} of the rows and {share} of the rise of the loss"
