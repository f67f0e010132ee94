"""Populations of labels, predictions and scores whose windows are sums of counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from service.profiles.binning import Binning
from service.profiles.build import profile_features, profile_performance
from service.profiles.columns import Classes, ManyClasses, Output, Quantity
from service.profiles.freeze import freeze_binning
from service.profiles.profile import NO_CONTENTS, FeatureProfile, Performance

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

WORSE = 0.1
SCORES = ("score_counts", "score_weights")


@dataclass(frozen=True)
class Stack:
    """The arrays of all cells, of which most are zeros."""

    cells: csr_array
    shape: tuple[int, ...]
    whole: bool

    @classmethod
    def of(cls, arrays: Sequence[Any]) -> "Stack":
        """Stack the arrays of the cells."""
        full = np.stack([np.asarray(array) for array in arrays])
        flat = csr_array(full.reshape(len(full), -1).astype(np.float64))
        return cls(flat, full.shape[1:], np.issubdtype(full.dtype, np.integer))

    def times(self, counts: Counts) -> Any:
        """Return the sum over rows."""
        total = np.asarray(counts.astype(np.float64) @ self.cells).reshape(self.shape)
        if self.whole:
            total = np.rint(total).astype(np.int64)
        return total if self.shape else total.item()

    @property
    def values(self) -> Floats:
        """Return what the cells have, if it is one number each."""
        numbers: Floats = self.cells.toarray().ravel()
        return numbers


@dataclass(frozen=True)
class Population:
    """Cells with their probabilities, and which metrics their task is judged by."""

    output: Output
    cells: pa.Table
    shares: Floats
    metrics: tuple[str, ...]

    @cached_property
    def binning(self) -> Binning:
        """Return edges frozen on the cells."""
        return freeze_binning(self.cells, [], self.output)

    @cached_property
    def _performance(self) -> tuple[Performance, dict[str, Stack]]:
        rows = [
            profile_performance(self.cells.slice(i, 1), self.binning)
            for i in range(self.cells.num_rows)
        ]
        return rows[0], _stacked(rows)

    @cached_property
    def _features(self) -> tuple[FeatureProfile, dict[str, dict[str, Stack]], dict[str, Stack]]:
        rows = [
            profile_features(self.cells.slice(i, 1), [], self.binning)
            for i in range(self.cells.num_rows)
        ]
        columns = {name: _stacked([r.columns[name] for r in rows]) for name in rows[0].columns}
        own = {name: Stack.of([getattr(r, name) for r in rows]) for name in SCORES}
        return rows[0], columns, own

    @cached_property
    def worse(self) -> "Population":
        """Return it with a changed concept, under the same edges."""
        changed = worse(self, WORSE)
        changed.__dict__["binning"] = self.binning
        return changed

    def draw(self, rng: np.random.Generator, rows: int) -> Counts:
        """Draw how many rows each cell has."""
        return rng.multinomial(rows, self.shares)

    def performance(self, counts: Counts) -> Performance:
        """Return the profile of labelled rows."""
        first, stacks = self._performance
        found: dict[str, Any] = {name: stack.times(counts) for name, stack in stacks.items()}
        if hasattr(first, "ranked"):
            found["ranked"] = None
        return replace(first, **found)

    def features(self, counts: Counts) -> FeatureProfile:
        """Return the profile of rows without labels."""
        first, columns, own = self._features
        rows = int(counts.sum())
        made = {}
        for name, stacks in columns.items():
            found: dict[str, Any] = {
                field: stacks[field].times(counts)
                for field in ("counts", "weights", "weights_squared", "sums")
            }
            means = stacks["mean"].values
            mean = float(counts @ means) / rows
            known = "minimum" in stacks
            seen = means[counts > 0]
            made[name] = replace(
                first.columns[name],
                **found,
                n=rows,
                minimum=float(seen.min()) if known else None,
                maximum=float(seen.max()) if known else None,
                mean=mean,
                m2=float(counts @ (means - mean) ** 2),
            )
        sums: dict[str, Any] = {name: own[name].times(counts) for name in SCORES}
        return replace(
            first, rows=rows, weight=float(rows), columns=made, contents=NO_CONTENTS, **sums
        )


def _stacked(rows: Sequence[Any]) -> dict[str, Stack]:
    found = {}
    for field in fields(rows[0]):
        values = [getattr(row, field.name) for row in rows]
        if all(isinstance(value, int | float | np.ndarray) for value in values):
            shape = np.shape(values[0])
            if all(np.shape(value) == shape for value in values):
                found[field.name] = Stack.of(values)
    found.pop("names", None)
    return found


def binary() -> Population:
    """Return a calibrated binary model: 200 scores, the label drawn from each."""
    grid = np.linspace(0.004, 0.996, 200)
    return _of_scores(grid, grid**-0.9 + (1 - grid) ** -0.9)


def rare() -> Population:
    """Return a calibrated binary model whose positives are about 3 % of the rows."""
    logits = np.linspace(-9, 3, 200)
    return _of_scores(expit(logits), np.exp(-((logits + 4.5) ** 2) / 4), at=0.1)


def _of_scores(grid: Floats, density: Floats, at: float = 0.5) -> Population:
    scores = np.repeat(grid, 2)
    labels = np.tile([0, 1], len(grid))
    shares = np.repeat(density, 2) * np.where(labels == 1, scores, 1 - scores)
    predicted = (scores >= at).astype(int)
    cells = pa.table(
        {"label": labels.astype(str), "prediction": predicted.astype(str), "score": scores}
    )
    return Population(
        Classes("0", "1"), cells, shares / shares.sum(), ("roc_auc", "accuracy", "recall")
    )


def multiclass() -> Population:
    """Return a calibrated model of three classes: 150 points of the simplex."""
    rng = np.random.default_rng(0)
    points = rng.dirichlet([0.5, 0.4, 0.3], 150)
    names = ("a", "b", "c")
    label = np.tile(np.arange(3), len(points))
    scores = np.repeat(points, 3, axis=0)
    shares = scores[np.arange(len(label)), label]
    table = {
        "label": np.array(names)[label],
        "prediction": np.array(names)[scores.argmax(axis=1)],
        **{f"scores.{name}": scores[:, i] for i, name in enumerate(names)},
    }
    return Population(
        ManyClasses(names), pa.table(table), shares / shares.sum(), ("roc_auc", "accuracy", "f1")
    )


def regression() -> Population:
    """Return a regression: 20 predictions, each with 15 errors of a bell's frequencies."""
    predicted = np.repeat(np.linspace(50, 500, 20), 15)
    deviations = np.tile(np.linspace(-3, 3, 15), 20)
    return _of_labels(predicted, predicted + 10 * deviations, np.exp(-(deviations**2) / 2))


def heavy() -> Population:
    """Return a regression whose errors grow with the prediction, and are lognormal."""
    predicted = np.repeat(np.geomspace(50, 500, 12), 61)
    deviations = np.tile(np.linspace(-4, 4, 61), 12)
    return _of_labels(predicted, predicted * np.exp(deviations / 2), np.exp(-(deviations**2) / 2))


def _of_labels(predicted: Floats, label: Floats, shares: Floats) -> Population:
    cells = pa.table({"prediction": predicted, "label": label})
    return Population(Quantity(), cells, shares / shares.sum(), ("rmse", "mae"))


TASKS: dict[str, Callable[[], Population]] = {
    "binary": binary,
    "rare": rare,
    "multiclass": multiclass,
    "regression": regression,
    "heavy": heavy,
}


def worse(population: Population, share: float) -> Population:
    """Return the population with this share of its labels drawn at random: the concept changed."""
    cells = population.cells
    if isinstance(population.output, Quantity):
        label = cells["label"].to_numpy()
        predicted = cells["prediction"].to_numpy()
        moved = pa.array(predicted + (label - predicted) * (1 + share))
        return replace(population, cells=cells.set_column(1, "label", moved))
    names = population.output.names
    size = len(names)
    # The cells of one score stand together, one for each label.
    grouped = population.shares.reshape(-1, size)
    mixed = (1 - share) * grouped + share * grouped.mean(axis=1, keepdims=True)
    return replace(population, shares=mixed.ravel())
