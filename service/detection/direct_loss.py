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

from service.detection.performance import MetricValue, Z
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

METHOD = "dle"
FOLDS = 3
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
    """The loss of a row by its features and its prediction.

    ``realised`` is the reference's mean loss, ``doubt`` the variance of a mean over as many rows,
    and ``optimism`` by how much cross-fitted estimates exceed it.  ``spread`` is the variance of a
    row's estimate, and ``noise`` that of its loss about the estimate, both cross-fitted.
    """

    model: Any
    realised: float
    doubt: float
    optimism: float
    spread: float
    noise: float
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class DirectLoss:
    """The models of a reference by metric; the reason where there is none."""

    encoding: Encoding
    models: Mapping[str, LossModel | str]


@dataclass(frozen=True, slots=True)
class LossEstimate:
    """A metric without labels, beside the reference's own; ``z`` is how far above that it is."""

    value: MetricValue
    baseline: float
    z: float


def fit_direct_loss(
    reference: pa.Table, columns: Sequence[Column], names: Sequence[str]
) -> DirectLoss:
    """Fit a model of the loss on the labelled reference, for each metric.

    Gradient boosting with the settings that NannyML takes of LightGBM; three-fold cross-fitting
    tells how much its mean is off and how well it tells rows apart.

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
    NannyML, "Direct Loss Estimation", https://nannyml.readthedocs.io.
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
    for fold in np.array_split(np.random.default_rng(0).permutation(n), FOLDS):
        rest = np.ones(n, dtype=bool)
        rest[fold] = False
        crossed[fold] = _boosted(inputs[rest], loss[rest], weight[rest], encoding).predict(
            inputs[fold]
        )
    total = float(weight.sum())
    share = weight / total
    realised = float(share @ loss)
    estimated = float(share @ crossed)
    n_eff = 1 / float(share @ share)
    return LossModel(
        model=_boosted(inputs, loss, weight, encoding),
        realised=realised,
        doubt=float(share @ (loss - realised) ** 2) / n_eff,
        optimism=estimated - realised,
        spread=float(share @ (crossed - estimated) ** 2),
        noise=float(share @ (loss - crossed) ** 2),
        rows=n,
    )


def _boosted(inputs: Floats, loss: Floats, weight: Floats, encoding: Encoding) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - see above

    categorical = [column.kind is Kind.CATEGORICAL for column in encoding.columns]
    model = HistGradientBoostingRegressor(
        early_stopping=False, categorical_features=[*categorical, False], random_state=0
    )
    return model.fit(inputs, loss, sample_weight=weight)


def estimate_losses(fitted: DirectLoss, rows: pa.Table) -> dict[str, LossEstimate | str]:
    """Estimate the errors of rows without labels, assuming that the loss given a row is the same.

    Parameters
    ----------
    fitted
        On the reference.
    rows
        The features and ``prediction``, and ``weight`` where logged.

    Returns
    -------
    dict of str to LossEstimate or str
        By metric; the reason where there is no estimate.  The interval (95 %) is for the value that
        labels will show: their noise, and that of the model, taken for the reference's mean loss.
        ``z`` compares means of losses: the noise is that of the rows drawn, and of the reference.
    """
    inputs = fitted.encoding.apply(rows)
    known = np.isfinite(inputs[:, -1])
    weights = find_weights(rows)
    weight = (np.ones(len(inputs)) if weights is None else weights)[known]
    if not weight.sum() > 0:
        return dict.fromkeys(fitted.models, "no_rows")
    inputs, share = inputs[known], weight / weight.sum()
    return {
        name: model if isinstance(model, str) else _estimate(name, model, inputs, share)
        for name, model in fitted.models.items()
    }


def _estimate(name: str, model: LossModel, inputs: Floats, share: Floats) -> LossEstimate:
    losses = np.maximum(model.model.predict(inputs), 0.0)
    n_eff = 1 / float(share @ share)
    raw = float(share @ losses)
    mean = max(raw - model.optimism, 0.0)
    spread = max(float(share @ (losses - raw) ** 2), model.spread)
    drawn = spread / n_eff + model.doubt
    z = (mean - model.realised) / float(np.sqrt(drawn)) if drawn > 0 else 0.0
    # Losses that are larger scatter more, as their size does.
    scale = max(mean / model.realised, 1.0) ** 2 if model.realised > 0 else 1.0
    unseen = float(np.sqrt(scale * model.noise / n_eff + model.doubt))
    value, baseline, error = mean, model.realised, unseen
    if name in ROOTS:
        value, baseline = float(np.sqrt(mean)), float(np.sqrt(model.realised))
        error = unseen / (2 * value) if value > 0 else 0.0
    low, high = max(value - Z * error, 0.0), value + Z * error
    n = len(losses)
    found = MetricValue(value, n, METHOD, n_eff, n, None, low, high, value, error)
    return LossEstimate(found, baseline, z)
