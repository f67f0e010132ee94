"""What a regression's losses are expected to be, against the reference's or what labels show."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from service.detection.direct_loss import (
    LOSSES,
    ROOTS,
    DirectLoss,
    LossModel,
    predict_losses,
    variance_of,
)
from service.detection.metric_value import MetricValue, Z
from service.profiles.arrays import LABEL, PREDICTION, find_floats, find_weights
from service.profiles.binning import Floats

METHOD = "dle"


@dataclass(frozen=True, slots=True)
class LossEstimate:
    """A metric without labels, beside the reference's own; ``z`` is how far above that it is."""

    value: MetricValue
    baseline: float
    z: float


@dataclass(frozen=True, slots=True)
class LossSurprise:
    """By what share of the reference's a metric exceeds what was expected of the very same rows.

    ``error`` is the standard error of ``value``; ``z`` compares means of losses.
    """

    value: float
    error: float
    z: float
    n: int
    n_eff: float


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """Losses by row, their mean, and the variance of that by what it was learned from."""

    losses: Floats
    mean: float
    fit: float


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
    expected = _expect(model, inputs, share)
    losses, mean = expected.losses, expected.mean
    n_eff = 1 / float(share @ share)
    spread = max(variance_of(losses, share), model.spread)
    drawn = spread / n_eff + model.doubt
    z = (mean - model.realised) / float(np.sqrt(drawn)) if drawn > 0 else 0.0
    # Losses that are larger scatter more, as their size does.
    scale = max(mean / model.realised, 1.0) ** 2 if model.realised > 0 else 1.0
    unseen = float(np.sqrt(scale * model.noise / n_eff + expected.fit))
    value, baseline, error = mean, model.realised, unseen
    if name in ROOTS:
        value, baseline = float(np.sqrt(mean)), float(np.sqrt(model.realised))
        error = unseen / (2 * value) if value > 0 else 0.0
    low, high = max(value - Z * error, 0.0), value + Z * error
    n = len(losses)
    found = MetricValue(value, n, METHOD, n_eff, n, None, low, high, value, error)
    return LossEstimate(found, baseline, z)


def measure_loss_surprises(fitted: DirectLoss, rows: pa.Table) -> dict[str, LossSurprise | str]:
    """Compare the errors that labels show with those expected of the very same rows.

    Input that moves to harder rows is expected to; only another loss of the same rows surprises.

    Parameters
    ----------
    fitted
        On the reference.
    rows
        As for ``estimate_losses``, and ``label``; rows without one have no part.

    Returns
    -------
    dict of str to LossSurprise or str
        By metric; the reason where there is none.  The variance is that of the rows' losses about
        what is expected, in the window or the reference, whichever is larger, and that of the fit:
        the reference's own losses about what models expected that had not seen them, and how far
        these models disagree about the window.
    """
    label, predicted = find_floats(rows, LABEL), find_floats(rows, PREDICTION)
    inputs, weights = fitted.encoding.apply(rows), find_weights(rows)
    weight = np.ones(len(inputs)) if weights is None else weights
    known = np.isfinite(label) & np.isfinite(predicted) & (weight > 0)
    found: dict[str, LossSurprise | str] = {}
    for name, model in fitted.models.items():
        if isinstance(model, str):
            found[name] = model
            continue
        loss = LOSSES[name](predicted, label)
        own = known & np.isfinite(loss)
        if name == "rmsle" and (known & ~own).any():
            found[name] = "negative_values"
        elif not own.any():
            found[name] = "no_rows"
        elif not model.realised > 0:
            found[name] = "reference_without_errors"
        else:
            share = weight[own] / weight[own].sum()
            found[name] = _surprise(name, model, inputs[own], loss[own], share)
    return found


def _surprise(
    name: str, model: LossModel, inputs: Floats, loss: Floats, share: Floats
) -> LossSurprise:
    expected = _expect(model, inputs, share)
    n_eff, realised = 1 / float(share @ share), float(share @ loss)
    noise = max(variance_of(loss - expected.losses, share), model.noise)
    error = float(np.sqrt(noise / n_eff + expected.fit))
    difference = realised - expected.mean
    # Of roots: a - b is (a² - b²) / (a + b).
    scale = model.realised
    if name in ROOTS:
        scale = float(np.sqrt(scale) * (np.sqrt(realised) + np.sqrt(expected.mean)))
    return LossSurprise(
        value=difference / scale if scale > 0 else 0.0,
        error=error / scale if scale > 0 else 0.0,
        z=difference / error if error > 0 else 0.0,
        n=len(loss),
        n_eff=n_eff,
    )


def _expect(model: LossModel, inputs: Floats, share: Floats) -> _Expected:
    each = np.stack([predict_losses(one, inputs) for one in model.models])
    losses: Floats = each.mean(axis=0)
    # Where rows are others than the reference's, models of its parts disagree: the jackknife.
    moved = (len(each) - 1) * float(np.var(each @ share - model.levels))
    mean = max(float(share @ losses) - model.optimism, 0.0)
    return _Expected(losses, mean, model.unseen + moved)
