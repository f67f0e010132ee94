"""Errors of a regression without labels: direct loss estimation (DLE), a second model of the loss.

For the worker's child process: scikit-learn takes a second to import.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.profiles.arrays import (
    LABEL,
    PREDICTION,
    find_array,
    find_floats,
    find_weights,
    text_codes,
    to_floats,
    to_text,
)
from service.profiles.binning import Floats
from service.profiles.columns import Column, Kind

FOLDS = 4
FEWEST_ROWS = 100
# What the library's trees can tell apart.
MOST_CATEGORIES = 250

Loss = Callable[[Floats, Floats], Floats]


def _squared_logs(predicted: Floats, label: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        logs: Floats = np.log1p(predicted) - np.log1p(label)
    return logs**2


def _relative(predicted: Floats, label: Floats) -> Floats:
    # A label of 0 has no relative error.
    at = np.where(label == 0, np.nan, label)
    return np.abs((predicted - label) / at)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "mae": lambda predicted, label: np.abs(predicted - label),
        "rmse": lambda predicted, label: (predicted - label) ** 2,
        "rmsle": _squared_logs,
        "mape": _relative,
    }
)
ROOTS = frozenset({"rmse", "rmsle"})


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """How columns become numbers: categories by their position among the reference's."""

    columns: tuple[Column, ...]
    categories: Mapping[str, tuple[str, ...]]

    def apply(self, rows: pa.Table) -> Floats:
        """Return the inputs, shape ``(n_rows, n_columns + 1)``, the prediction last."""
        inputs = [self._column(rows, column) for column in self.columns]
        return np.stack([*inputs, find_floats(rows, PREDICTION)], axis=1)

    def _column(self, rows: pa.Table, column: Column) -> Floats:
        array = find_array(rows, column.name)
        if array is None or pa.types.is_null(array.type):
            return np.full(rows.num_rows, np.nan)
        if column.kind is not Kind.CATEGORICAL:
            values = to_floats(array)
            return np.where(np.isfinite(values), values, np.nan)
        codes = text_codes(to_text(array), self.categories[column.name]).astype(np.float64)
        return np.where(codes < 0, np.nan, codes)


@dataclass(frozen=True, slots=True, eq=False)
class LossModel:
    """The loss of a row by its features and its prediction: the mean of cross-fitted models.

    ``realised`` is the reference's mean loss, ``doubt`` the variance of a mean over as many rows,
    and ``optimism`` by how much the estimates of rows that a model has not seen exceed it.
    ``spread`` is the variance of these, ``noise`` that of the losses about them, and ``unseen``
    what ``noise`` is of a mean over the reference.  ``levels`` are the models' own means there.
    """

    models: tuple[Any, ...]
    realised: float
    doubt: float
    optimism: float
    spread: float
    noise: float
    unseen: float
    levels: Floats
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class DirectLoss:
    """The models of a reference by metric; the reason where there is none."""

    encoding: Encoding
    models: Mapping[str, LossModel | str]


def fit_direct_loss(
    reference: pa.Table, columns: Sequence[Column], names: Sequence[str]
) -> DirectLoss:
    """Fit a model of the loss on the labelled reference, for each metric.

    Gradient boosting with the settings that NannyML takes of LightGBM, cross-fitted: each model
    tells of the rows that it has not seen how much its mean is off, and how well it tells rows
    apart; their average judges windows.

    Parameters
    ----------
    reference
        ``label``, ``prediction``, the features, and ``weight`` where logged.
    columns
        The features; only numbers, categories and booleans are inputs.
    names
        Of ``LOSSES``.

    Returns
    -------
    DirectLoss
        A metric has a reason instead of a model where the reference has fewer than 100 losses, or
        one that has no logarithm.

    References
    ----------
    NannyML, "Direct Loss Estimation", https://nannyml.readthedocs.io.  T. Zrnic and E. Candès,
    "Cross-prediction-powered inference", 2024.
    """
    label, predicted = find_floats(reference, LABEL), find_floats(reference, PREDICTION)
    known = np.isfinite(label) & np.isfinite(predicted)
    rows = reference.filter(pa.array(known))
    label, predicted = label[known], predicted[known]
    weights = find_weights(rows)
    weight = np.ones(len(label)) if weights is None else weights
    encoding = _encoding(rows, columns)
    inputs = encoding.apply(rows)
    models: dict[str, LossModel | str] = {}
    for name in names:
        loss = LOSSES[name](predicted, label)
        if name == "rmsle" and not np.isfinite(loss).all():
            models[name] = "negative_values"
            continue
        own = np.isfinite(loss) & (weight > 0)
        if np.count_nonzero(own) < FEWEST_ROWS:
            models[name] = "reference_insufficient"
            continue
        models[name] = _fit(inputs[own], loss[own], weight[own], encoding)
    return DirectLoss(encoding, models)


def _encoding(rows: pa.Table, columns: Sequence[Column]) -> Encoding:
    kept, categories = [], {}
    for column in columns:
        array = find_array(rows, column.name)
        known = array is not None and array.null_count < len(array)
        if not known or column.kind not in {Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN}:
            continue
        kept.append(column)
        if column.kind is Kind.CATEGORICAL:
            counted = pc.value_counts(to_text(pc.drop_null(array)))
            names = counted.field("values").to_pylist()
            counts = counted.field("counts").to_pylist()
            ranked = sorted(zip((-n for n in counts), names, strict=True))
            categories[column.name] = tuple(name for _, name in ranked[:MOST_CATEGORIES])
    return Encoding(tuple(kept), categories)


def _fit(inputs: Floats, loss: Floats, weight: Floats, encoding: Encoding) -> LossModel:
    n = len(loss)
    crossed = np.empty(n)
    share = weight / float(weight.sum())
    models, levels = [], []
    for fold in np.array_split(np.random.default_rng(0).permutation(n), FOLDS):
        rest = np.ones(n, dtype=bool)
        rest[fold] = False
        model = _boosted(inputs[rest], loss[rest], weight[rest], encoding)
        crossed[fold] = predict_losses(model, inputs[fold])
        models.append(model)
        # Boosting of squares leaves no residual on average: on its own rows its mean is theirs.
        levels.append(float(share[rest] @ loss[rest] + share[fold] @ crossed[fold]))
    realised, estimated = float(share @ loss), float(share @ crossed)
    n_eff = 1 / float(share @ share)
    noise = variance_of(loss - crossed, share)
    return LossModel(
        models=tuple(models),
        realised=realised,
        doubt=variance_of(loss, share) / n_eff,
        optimism=estimated - realised,
        spread=variance_of(crossed, share),
        noise=noise,
        unseen=noise / n_eff,
        levels=np.array(levels),
        rows=n,
    )


def variance_of(values: Floats, share: Floats) -> float:
    """Return the variance of values with these shares, which sum to 1."""
    return float(share @ (values - share @ values) ** 2)


def _boosted(inputs: Floats, loss: Floats, weight: Floats, encoding: Encoding) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    # The library bins no column without a value; a constant one is as useless, and is binned.
    inputs = np.where(np.isnan(inputs).all(axis=0), 0.0, inputs)
    categorical = [column.kind is Kind.CATEGORICAL for column in encoding.columns]
    model = HistGradientBoostingRegressor(
        early_stopping=False, categorical_features=[*categorical, False], random_state=0
    )
    return model.fit(inputs, loss, sample_weight=weight)


def predict_losses(model: Any, inputs: Floats) -> Floats:
    """Return the losses that one model expects of rows; none is negative."""
    losses: Floats = np.maximum(model.predict(inputs), 0.0)
    return losses
