"""Columns of two windows, and the tests that all of them take together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from service.detection.comparison import Comparison, Test
from service.detection.methods import METHODS, DriftMethod
from service.detection.power import detectable_effect
from service.detection.rare import RareCell
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.multiplicity import sidak_adjust, sidak_level
from service.evaluation.rare import describe_cell, judge_rare
from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.columns import ATTRIBUTIONS

SCORE = "score"
LABEL = "label"
# A class that goes from 5 % to 9 % is half as far as what matters of a feature, and matters.
LABEL_EFFECT = 0.5


@dataclass(frozen=True, slots=True)
class ColumnDriftPolicy:
    """What one column does differently; ``None`` follows the model's policy."""

    method: str | None = None
    min_effect: float | None = None
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """When drift is an alert.

    ``alpha`` is the probability of any drift alert in a window without drift, over all columns.
    ``method`` scores every column that can have it; ``ks`` and ``wasserstein`` need numbers, and
    categories get ``total_variation`` in their stead, as do constants instead of ``wasserstein``.
    ``min_effect`` is the smallest score that matters, whatever the method (``None``: the method's
    own), and ``rare_ratio`` the factor by which the share of a rare category has to change.
    Unless it is a column's own, ``min_effect`` is less for features of more than average
    ``importance``, and more for others.
    """

    method: str = "jensen_shannon"
    alpha: float = 0.01
    min_effect: float | None = None
    columns: Mapping[str, ColumnDriftPolicy] = field(default_factory=dict)
    min_rows: int = 100
    rare_ratio: float = 2.0
    importance: Importance = ALIKE


@dataclass(frozen=True, slots=True, eq=False)
class JudgedColumn:
    """One column of both windows, and how it is to be judged."""

    name: str
    min_effect: float
    compared: Comparison
    blocked: str | None = None

    @property
    def method(self) -> DriftMethod:
        """Return the method that made the score."""
        return self.compared.method

    def tests(self, rows: int) -> tuple[Test, ...]:
        """Return the tests that may alert, none if either window has too few rows."""
        judged = self.blocked is None and self.compared.has(rows)
        return self.compared.tests if judged else ()


def judged_bins(binning: Binning, policy: DriftPolicy) -> dict[str, NumericBins | CategoricalBins]:
    """Return the edges of every column that is judged, the score among them."""
    bins_by_name = dict(binning.columns)
    if binning.score_bins is not None:
        bins_by_name[SCORE] = binning.score_bins
    parts = binning.parts
    return {
        name: bins
        for name, bins in bins_by_name.items()
        if not own_policy(name, policy, parts.get(name)).ignore
    }


def own_policy(name: str, policy: DriftPolicy, feature: str | None = None) -> ColumnDriftPolicy:
    """Return what a column does differently, or else the feature that it was derived from."""
    own = policy.columns.get(feature or name, ColumnDriftPolicy())
    return policy.columns.get(name, own)


def judged_column(
    name: str,
    own: ColumnDriftPolicy,
    policy: DriftPolicy,
    compare: Callable[[DriftMethod], Comparison],
) -> JudgedColumn:
    """Compare a column by its method, and say from which score on that matters."""
    compared = compare(METHODS[own.method or policy.method])
    default = compared.method.default_min_effect * (LABEL_EFFECT if name == LABEL else 1)
    effect = own.min_effect
    if effect is None:
        effect = default if policy.min_effect is None else policy.min_effect
        effect *= policy.importance.scale(name)
    return JudgedColumn(name, effect, compared)


def judge_columns(
    columns: Sequence[JudgedColumn], policy: DriftPolicy, share: float
) -> list[Measurement]:
    """Judge columns that share a part of ``alpha``: half by distributions, half by rare cells."""
    least = max(policy.min_rows, 1)
    tests = sum(len(column.tests(policy.min_rows)) for column in columns)
    usable = {c.name: c.compared for c in columns if c.blocked is None and c.compared.has(least)}
    rare = judge_rare(usable, policy.alpha * share / 2, policy.rare_ratio)
    return [_measure(column, tests, rare.get(column.name, []), policy, share) for column in columns]


def _measure(
    column: JudgedColumn,
    tests: int,
    rare: Sequence[tuple[RareCell, float]],
    policy: DriftPolicy,
    share: float,
) -> Measurement:
    compared, half = column.compared, policy.alpha * share / 2
    reasons: list[str] = []
    p_value, threshold, detectable = 1.0, column.min_effect, None
    if (own := column.tests(policy.min_rows)) and compared.score is not None:
        level = sidak_level(half, tests)
        reached = min(_score_at(level, column.method, compared.score, test) for test in own)
        threshold = max(threshold, reached)
        detectable = detectable_effect(own[0], level, column.method, column.min_effect)
        p_value = sidak_adjust(min(test.p_value for test in own), tests)
        if p_value < half and compared.score >= column.min_effect:
            reasons.append(f"{column.method.name} {compared.score:.3f} is beyond {threshold:.3f}")
    p_value = min(p_value, *(adjusted for _, adjusted in rare), 1.0)
    reasons += [describe_cell(compared, cell) for cell, adjusted in rare if adjusted < half]
    verdict = Verdict.ALERT if reasons else Verdict.OK
    if not reasons and (reason := _insufficient(column, policy.min_rows, threshold)) is not None:
        verdict, reasons = Verdict.INSUFFICIENT_DATA, [reason]
    judged = verdict is not Verdict.INSUFFICIENT_DATA
    feature = column.name.removeprefix(ATTRIBUTIONS)
    return Measurement(
        metric="drift" if feature == column.name else "attribution_drift",
        subject=feature,
        value=compared.score,
        n=compared.rows,
        n_reference=compared.reference_rows,
        method=column.method.name,
        direction=Direction(column.method.direction),
        verdict=verdict,
        threshold=threshold if judged else None,
        # All parts of alpha are spent side by side, so that this compares to alpha itself.
        p_value=min(2 * p_value / share, 1.0) if judged else None,
        detectable_effect=detectable if judged else None,
        reason="; ".join(reasons) or None,
    )


def _insufficient(column: JudgedColumn, min_rows: int, threshold: float) -> str | None:
    compared = column.compared
    if compared.reason is not None:
        return compared.reason
    if compared.rows < min_rows:
        return f"{compared.rows} rows have a value, fewer than {min_rows}"
    if compared.reference_rows < min_rows:
        rows = compared.reference_rows
        return f"{rows} rows of the reference have a value, fewer than {min_rows}"
    if column.blocked is None and threshold == column.method.upper != column.min_effect:
        chunks = compared.tests[0].variability.chunks
        return f"the reference's {chunks} chunks differ too much to tell any change"
    return column.blocked


def _score_at(level: float, method: DriftMethod, score: float, test: Test) -> float:
    """Return the score at which p reaches ``level`` at these sizes, along the observed change."""
    critical = test.critical(level)
    if score > 0 and test.statistic > 0:
        found = score * (critical / test.statistic) ** method.exponent
    else:
        found = (method.scale * critical * test.spread) ** method.exponent
    return float(found if method.upper is None else min(found, method.upper))
