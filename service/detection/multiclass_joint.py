"""How much of the classes' errors is left in a mean over the classes: profiles cannot tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.detection.metric_value import FEWEST_IN_DENOMINATOR
from service.detection.performance import auc_gradient
from service.detection.precision_recall import average_precision_gradient
from service.profiles.arrays import LABEL, class_codes, find_weights
from service.profiles.columns import ManyClasses, Output
from service.profiles.multiclass import class_scores
from service.profiles.profile import Floats

MOST_ROWS = 5_000
# Rows times classes, so that a mean takes a few milliseconds however many classes there are.
MOST_SCORES = 100_000

_Gradient = Callable[[Floats, Floats], tuple[Floats, Floats]]
_GRADIENTS: Mapping[str, _Gradient] = MappingProxyType(
    {"roc_auc": auc_gradient, "average_precision": average_precision_gradient}
)


@dataclass(frozen=True, slots=True, eq=False)
class JointScores:
    """Some labelled rows of a reference, with the scores of all classes side by side.

    ``labels`` are positions among ``names``, ``weights`` the rows' own, both ``(n,)``; ``ranks``
    has the place of each row's score among the distinct ones of its class, ``(k, n)``.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    weights: Floats
    ranks: NDArray[np.int32]

    def error_left(self, name: str, shares: Floats) -> float | None:
        """Return the standard error of a mean over the classes, as a share of their mean error.

        Parameters
        ----------
        name
            ``roc_auc`` or ``average_precision``, each of one class against the rest.
        shares
            How the rows in question are spread over the classes, shape ``(k,)``, above 0; these
            rows are weighted to be spread alike.

        Returns
        -------
        float or None
            In [0, 1]; 1 where the errors are fully correlated.  By the gradient in the weight of
            each row, which for the AUC is DeLong's placement.  ``None`` if a class has fewer than
            10 rows here, if they are ranked without an error, or if a number overflows.

        References
        ----------
        E. R. DeLong et al., 1988.
        """
        k = len(self.names)
        if np.bincount(self.labels, minlength=k).min(initial=MOST_ROWS) < FEWEST_IN_DENOMINATOR:
            return None
        total, errors = np.zeros(len(self.labels)), 0.0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mass = np.bincount(self.labels, self.weights, k)
            factor = (shares / shares.sum() / mass)[self.labels]
            for position, rank in enumerate(self.ranks):
                own, size = self.labels == position, 2 * int(rank.max()) + 2
                cells = np.bincount(2 * rank + own, factor * self.weights, size).astype(np.float64)
                up, down = _GRADIENTS[name](cells[1::2], cells[::2])
                moved = np.sqrt(factor) * self.weights * np.where(own, up[rank], down[rank])
                total += moved
                errors += float(np.sqrt(moved @ moved))
            left = float(np.sqrt(total @ total)) / errors if errors > 0 else np.nan
        return min(left, 1.0) if np.isfinite(left) else None


def joint_scores(rows: pa.Table, output: Output) -> JointScores | None:
    """Choose at most 5,000 labelled rows, rare classes with more than their share.

    The same rows give the same choice.  ``None`` for another task, and without a row that has a
    label and a score of every class.
    """
    if not isinstance(output, ManyClasses):
        return None
    labels, scores = class_codes(rows, LABEL, output), class_scores(rows, output)
    known = find_weights(rows)
    weights = np.ones(rows.num_rows) if known is None else known
    usable = (labels >= 0) & np.isfinite(scores).all(axis=1) & (weights > 0)
    labels, scores, weights = labels[usable], scores[usable], weights[usable]
    if not len(labels):
        return None
    chosen = _choose(labels, min(MOST_ROWS, MOST_SCORES // len(output.names)))
    ranks = [np.unique(column, return_inverse=True)[1].ravel() for column in scores[chosen].T]
    # Only proportions matter, and the squares of very large ones would overflow.
    weights = weights[chosen] / weights[chosen].max()
    return JointScores(output.names, labels[chosen], weights, np.array(ranks, np.int32))


def _choose(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return which rows to keep: of each class about as many as the root of its frequency."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rows = np.bincount(labels)
    wanted = np.ceil(most * np.sqrt(rows) / np.sqrt(rows).sum()).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    # How many of its class come before each row.
    grouped = order[np.argsort(labels[order], kind="stable")]
    place = np.arange(len(labels)) - (np.cumsum(rows) - rows)[labels[grouped]]
    chosen: NDArray[np.int64] = np.sort(grouped[place < wanted[labels[grouped]]])
    return chosen
