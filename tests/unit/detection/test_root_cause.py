"""Decompositions worked by hand, and planted causes that must come first."""

from typing import Any

import numpy as np
import pytest

from service.detection.discovery import Losses
from service.detection.predicates import Axis, Mask, Vocabulary, predicates_of
from service.detection.root_cause import Contribution, explain_loss, sentence_of, shift_of

AXES = (
    Axis("income", np.array([10.0, 20.0, 30.0])),
    Axis("region", categories=("north", "south")),
    Axis("plan", categories=("basic", "gold", "free")),
)
WORDS = Vocabulary(AXES, predicates_of(AXES))
SIZES = (4, 2, 3)


def some_codes(draw: np.random.Generator, n: int, income: Any = None) -> Any:
    columns = [draw.integers(0, size, n) for size in SIZES]
    if income is not None:
        columns[0] = draw.choice(4, n, p=income)
    return np.stack(columns, axis=1).astype(np.int16)


def errors(draw: np.random.Generator, codes: Any, share: Any) -> Losses:
    return Losses(codes, (draw.random(len(codes)) < share).astype(np.float64))


def explain(
    before: Losses, now: Losses, slices: dict[str, tuple[Mask, Mask]] | None = None
) -> list[Contribution]:
    return explain_loss(WORDS, before, now, slices or {}, np.random.default_rng(0))


# The model errs more where incomes are high.
BY_INCOME = np.array([0.05, 0.1, 0.2, 0.4])


def test_a_decomposition_by_hand() -> None:
    # Half of the rows lose .1 and half .3; then a tenth and nine tenths: .28 instead of .2.
    codes = np.repeat([[0, 0, 0], [3, 0, 0]], [100, 100], axis=0).astype(np.int16)
    before = Losses(codes, np.r_[np.repeat([1.0, 0], [10, 90]), np.repeat([1.0, 0], [30, 70])])
    later = np.repeat([[0, 0, 0], [3, 0, 0]], [20, 180], axis=0).astype(np.int16)
    now = Losses(later, np.r_[np.repeat([1.0, 0], [2, 18]), np.repeat([1.0, 0], [54, 126])])
    assert now.loss.mean() - before.loss.mean() == pytest.approx(0.08)
    (only,) = explain(before, now)
    assert (only.kind, only.name, only.n) == ("feature", "income", 200)
    assert only.share == pytest.approx(1.0)
    assert only.ci_low < 1 < only.ci_high
    assert sentence_of(only) == "the shift of income explains 100 % of the rise of the loss"
    assert shift_of(np.array([0.5, 0.5]), np.array([0.1, 0.9]), np.array([0.1, 0.3])) == 0.08


def test_a_shift_and_a_change_within_bins_add_up_to_the_rise() -> None:
    draw = np.random.default_rng(1)
    old, new = some_codes(draw, 200_000), some_codes(draw, 200_000, [0.1, 0.2, 0.3, 0.4])
    before, now = errors(draw, old, BY_INCOME[old[:, 0]]), errors(draw, new, BY_INCOME[new[:, 0]])
    first, *others = explain(before, now)
    assert (first.kind, first.name) == ("feature", "income")
    assert first.share == pytest.approx(1, abs=0.1)
    assert not others
    shares = [np.bincount(c[:, 0], minlength=4) / len(c) for c in (old, new)]
    losses = [
        np.bincount(side.codes[:, 0], side.loss, 4) / np.bincount(side.codes[:, 0])
        for side in (before, now)
    ]
    rise = now.loss.mean() - before.loss.mean()
    within = float((shares[1] * (losses[1] - losses[0])).sum())
    assert first.share * rise + within == pytest.approx(rise)


def test_a_slice_that_broke_accounts_for_the_loss() -> None:
    draw = np.random.default_rng(2)
    old, new = some_codes(draw, 20_000), some_codes(draw, 20_000)
    north = (new[:, 1] == 0) & (new[:, 2] == 1)
    before, now = errors(draw, old, 0.1), errors(draw, new, np.where(north, 0.4, 0.1))
    found = explain(
        before, now, {"region=north & plan=gold": ((old[:, 1] == 0) & (old[:, 2] == 1), north)}
    )
    assert (found[0].kind, found[0].name) == ("slice", "region=north & plan=gold")
    assert found[0].share == pytest.approx(1, abs=0.1)
    assert found[0].rows == pytest.approx(1 / 6, abs=0.01)
    # What holds the slice has its loss, too, but more rows.
    assert {one.name for one in found[1:]} <= {"region=north", "plan=gold"}


def test_a_predicate_that_nobody_found_is_a_slice_as_well() -> None:
    draw = np.random.default_rng(3)
    old, new = some_codes(draw, 5_000), some_codes(draw, 5_000)
    free = new[:, 2] == 2
    found = explain(errors(draw, old, 0.1), errors(draw, new, np.where(free, 0.3, 0.1)))
    assert [(one.kind, one.name) for one in found] == [("slice", "plan=free")]
    assert found[0].ci_low < 1 < found[0].ci_high
    assert sentence_of(found[0]).startswith("plan=free is 3")


def test_another_concept_everywhere_is_nobodys_alone() -> None:
    draw = np.random.default_rng(4)
    old, new = some_codes(draw, 20_000), some_codes(draw, 20_000)
    assert explain(errors(draw, old, 0.1), errors(draw, new, 0.2)) == []


def test_a_shift_that_costs_nothing_explains_nothing() -> None:
    draw = np.random.default_rng(5)
    old, new = some_codes(draw, 20_000), some_codes(draw, 20_000, [0.1, 0.2, 0.3, 0.4])
    assert explain(errors(draw, old, 0.1), errors(draw, new, 0.2)) == []


def test_no_loss_and_no_rows_have_no_cause() -> None:
    draw = np.random.default_rng(6)
    codes = some_codes(draw, 1_000)
    assert explain(errors(draw, codes, 0.3), errors(draw, codes, 0.1)) == []
    none = Losses(codes[:0], np.empty(0))
    assert explain(none, none) == []
    assert explain(errors(draw, codes, 0.3), none) == []


def test_the_interval_of_a_shift_covers_the_share_that_was_planted() -> None:
    draw = np.random.default_rng(7)
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    shift = float(((shares - 0.25) * BY_INCOME).sum())
    covered, runs = 0, 150
    for _ in range(runs):
        old, new = some_codes(draw, 3_000), some_codes(draw, 3_000, shares)
        # All rows lose .05 more as well.
        before = errors(draw, old, BY_INCOME[old[:, 0]])
        now = errors(draw, new, BY_INCOME[new[:, 0]] + 0.05)
        found = [one for one in explain(before, now) if one.name == "income"]
        covered += bool(found) and found[0].ci_low <= shift / (shift + 0.05) <= found[0].ci_high
    assert covered / runs >= 0.9
