"""Judge whether the rows of a window moved as a whole, though no column may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.detection.encoding import ENCODED, encode, vectors_of
from service.detection.multivariate import classify_domain, directions_of, reconstruct
from service.evaluation.measurement import Direction, Measurement, Verdict, unmeasured
from service.evaluation.multiplicity import sidak_adjust
from service.profiles.arrays import TIME
from service.profiles.columns import Column, Kind

if TYPE_CHECKING:
    from service.detection.separation import Separation
    from service.evaluation.rows import Sampled
    from service.evaluation.window import Policies

CLASSIFIER = "domain_classifier_auc"
RECONSTRUCTION = "pca_reconstruction_error"
EMBEDDINGS = "embedding_drift"
DOMAIN_CLASSIFIER = "domain_classifier"
MULTIVARIATE = frozenset({CLASSIFIER, RECONSTRUCTION, EMBEDDINGS})

# By how many of its standard deviations the mean error has to move.
MIN_SHIFT = 0.1
HOUR_US = 3_600_000_000
LENGTHS_US = tuple(hours * HOUR_US for hours in (1, 6, 24, 168, 720))


@dataclass(frozen=True, slots=True)
class MultivariatePolicy:
    """When rows that moved as a whole are an alert.

    ``alpha`` is the probability of any such alert in a window without drift: the domain
    classifier, the reconstruction and every embedding share it.  ``min_auc`` is how well the
    classifier has to tell the sides apart; at most ``max_rows`` rows of each are looked at.
    """

    alpha: float = 0.01
    min_auc: float = 0.6
    max_rows: int = 10_000
    classifier: bool = True
    reconstruction: bool = True


def judge_classifier(sampled: Sampled, policies: Policies) -> list[Measurement]:
    """Judge whether a classifier can tell the rows of the window from the reference's.

    Returns
    -------
    list of Measurement
        ``domain_classifier_auc``: the area under the curve of rows that did not teach, in 0..1,
        with a 95 % interval; an alert if it is at least ``min_auc`` and chance is left behind.
    """
    policy = policies.multivariate
    if policy is None or not policy.classifier:
        return []
    before, now = _sides(sampled, policy)
    thin = _thin(before.num_rows, now.num_rows, policies)
    if thin is not None:
        return [_unknown(CLASSIFIER, DOMAIN_CLASSIFIER, now.num_rows, before.num_rows, thin)]
    encoded = encode(before, now, _plain(sampled, policies))
    if not encoded.columns:
        reason = "no column varies on both sides"
        return [_unknown(CLASSIFIER, DOMAIN_CLASSIFIER, now.num_rows, before.num_rows, reason)]
    found = classify_domain(encoded, _pieces(before, now))
    tests = _tests(sampled, policies)
    return [_judged(CLASSIFIER, None, found, policy, tests, (now.num_rows, before.num_rows))]


def judge_reconstruction(sampled: Sampled, policies: Policies) -> list[Measurement]:
    """Judge whether columns still hang together as they do in the reference.

    Returns
    -------
    list of Measurement
        ``pca_reconstruction_error``: the mean distance between a row and what the reference's
        principal components make of it, in standard deviations; an alert if it moved either way
        by ``MIN_SHIFT`` of its own standard deviations and chance is left behind.
    """
    policy = policies.multivariate
    if policy is None or not policy.reconstruction:
        return []
    before, now = _sides(sampled, policy)
    sizes = (now.num_rows, before.num_rows)
    thin = _thin(before.num_rows, now.num_rows, policies)
    found = None
    if thin is None:
        encoded = encode(before, now, _plain(sampled, policies))
        found = reconstruct(encoded, _pieces(before, now))
    if found is None:
        reason = thin or "fewer than two columns vary in the reference"
        return [_unknown(RECONSTRUCTION, "pca", *sizes, reason)]
    p_value = sidak_adjust(found.separation.p_either, _tests(sampled, policies))
    least = MIN_SHIFT * found.deviation
    moved = found.current - found.reference
    alert = p_value < policy.alpha and abs(moved) >= least
    return [
        Measurement(
            metric=RECONSTRUCTION,
            value=found.current,
            n=sizes[0],
            n_reference=sizes[1],
            method="pca",
            direction=Direction.HIGHER_IS_WORSE,
            reference_value=found.reference,
            threshold=found.reference + (-least if alert and moved < 0 else least),
            p_value=p_value,
            verdict=Verdict.ALERT if alert else Verdict.OK,
            reason="columns hang together otherwise than in the reference" if alert else None,
        )
    ]


def judge_embeddings(sampled: Sampled, policies: Policies) -> list[Measurement]:
    """Judge each column of vectors by the domain classifier.

    Returns
    -------
    list of Measurement
        ``drift`` of the column, whose value is the area under the curve.
    """
    policy = policies.multivariate
    if policy is None:
        return []
    before, now = _sides(sampled, policy)
    tests = _tests(sampled, policies)
    return [
        _judge_vectors(column.name, before, now, policies, tests)
        for column in _embeddings(sampled, policies)
    ]


def _judge_vectors(
    name: str, before: pa.Table, now: pa.Table, policies: Policies, tests: int
) -> Measurement:
    policy = policies.multivariate
    assert policy is not None
    sides = vectors_of(before, name), vectors_of(now, name)
    rows = [0 if side is None else len(side) for side in sides]
    reason = _thin(rows[0], rows[1], policies)
    if sides[0] is None or sides[1] is None or reason is not None:
        reason = reason or "a side has no vectors"
        return _unknown("drift", DOMAIN_CLASSIFIER, rows[1], rows[0], reason, name)
    if sides[0].shape[1] != sides[1].shape[1]:
        reason = "the vectors have another length than the reference's"
        return _unknown("drift", DOMAIN_CLASSIFIER, rows[1], rows[0], reason, name)
    encoded = directions_of(sides[0], sides[1])
    if not encoded.columns:
        reason = "the vectors do not vary"
        return _unknown("drift", DOMAIN_CLASSIFIER, rows[1], rows[0], reason, name)
    found = classify_domain(encoded, None)
    return _judged("drift", name, found, policy, tests, (rows[1], rows[0]))


def _plain(sampled: Sampled, policies: Policies) -> list[Column]:
    return [column for column in _watched(sampled, policies) if column.kind in ENCODED]


def _embeddings(sampled: Sampled, policies: Policies) -> list[Column]:
    return [column for column in _watched(sampled, policies) if column.kind is Kind.EMBEDDING]


def _watched(sampled: Sampled, policies: Policies) -> list[Column]:
    ignored = {name for name, own in policies.drift.columns.items() if own.ignore}
    parts = sampled.binning.parts
    return [
        column
        for column in sampled.columns
        if ignored.isdisjoint((column.name, parts.get(column.name)))
    ]


def _tests(sampled: Sampled, policies: Policies) -> int:
    policy = policies.multivariate
    assert policy is not None
    plain = policy.classifier + policy.reconstruction if _plain(sampled, policies) else 0
    return max(plain + len(_embeddings(sampled, policies)), 1)


def _sides(sampled: Sampled, policy: MultivariatePolicy) -> tuple[pa.Table, pa.Table]:
    """Return at most ``max_rows`` rows of each side, the reference's in order of time."""
    before = sampled.reference
    if TIME in before.column_names:
        before = before.sort_by(TIME)
    if before.num_rows > policy.max_rows:
        picked = np.arange(policy.max_rows) * before.num_rows // policy.max_rows
        before = before.take(pa.array(picked))
    return before, sampled.current.slice(0, policy.max_rows)


def _thin(before: int, now: int, policies: Policies) -> str | None:
    # Halves of either side teach and are asked.
    least = max(policies.drift.min_rows, 20)
    if now < least:
        return f"{now} rows, fewer than {least}"
    if before < least:
        return f"{before} rows of the reference, fewer than {least}"
    return None


def _pieces(before: pa.Table, now: pa.Table) -> NDArray[np.int64] | None:
    """Return which piece of the reference its rows are from: about as long as the window.

    Without times, or with fewer than ten such pieces, ten or more of equal size: smaller pieces
    can only overstate how much the reference varies by itself.
    """
    spans = [_microseconds(side) for side in (before, now)]
    if spans[0] is not None and spans[1] is not None:
        length = int(spans[1].max() - spans[1].min())
        nearest = min(LENGTHS_US, key=lambda known: abs(np.log((length + 1) / known)))
        pieces = spans[0] // nearest
        if len(np.unique(pieces)) >= 10:  # noqa: PLR2004  as many as say how much they differ
            return pieces
    count = min(max(before.num_rows // max(now.num_rows, 1), 10), 30)
    equal: NDArray[np.int64] = np.arange(before.num_rows) * count // max(before.num_rows, 1)
    return equal


def _microseconds(rows: pa.Table) -> NDArray[np.int64] | None:
    if TIME not in rows.column_names or not pa.types.is_timestamp(rows[TIME].type):
        return None
    times = rows[TIME].cast(pa.timestamp("us", rows[TIME].type.tz), safe=False)
    if times.null_count:
        return None
    found: NDArray[np.int64] = pc.cast(times, pa.int64()).to_numpy()
    return found


def _judged(
    metric: str,
    subject: str | None,
    found: Separation,
    policy: MultivariatePolicy,
    tests: int,
    sizes: tuple[int, int],
) -> Measurement:
    p_value = sidak_adjust(found.p_above, tests)
    alert = p_value < policy.alpha and found.auc >= policy.min_auc
    reason = f"a classifier tells the rows from the reference's with an AUC of {found.auc:.3f}"
    return Measurement(
        metric=metric,
        subject=subject,
        value=found.auc,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=sizes[0],
        n_reference=sizes[1],
        method=DOMAIN_CLASSIFIER,
        direction=Direction.HIGHER_IS_WORSE,
        reference_value=0.5,
        threshold=policy.min_auc,
        p_value=p_value,
        verdict=Verdict.ALERT if alert else Verdict.OK,
        reason=reason if alert else None,
    )


def _unknown(
    metric: str, method: str, n: int, n_reference: int, reason: str, subject: str | None = None
) -> Measurement:
    return unmeasured(metric, n, reason, method=method, n_reference=n_reference, subject=subject)
