"""A synthetic loan model: its reference, and a month in which three things go wrong.

The model's score is the true probability of repayment as long as the world stays as it was
when the model was trained.  Then, counted in days from the start of the month,

* on the days 12 to 15 the upstream system sends ``employment_months`` in days, far beyond
  its range; from day 16 on it is right again,
* from day 16 on other customers come: higher incomes, younger people,
* from day 18 on repayment in the north is much rarer at the same features.

Each row's label is known ten days after its prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SEED: Final = 20_261
DAYS: Final = 30
ROWS_A_DAY: Final = 1_000
REFERENCE_DAYS: Final = 60
REFERENCE_ROWS: Final = 24_000
LABEL_DELAY: Final = timedelta(days=10)
UNIT_DAY: Final = 12
UNIT_FIXED_DAY: Final = 16
DAYS_A_MONTH: Final = 30.44
LONGEST_EMPLOYMENT: Final = 480.0
SHIFT_DAY: Final = 16
CONCEPT_DAY: Final = 18
CONCEPT_REGION: Final = "north"
CONCEPT_LOSS: Final = 3.0
_REFERENCE_STREAM: Final = 1_000_000

REGIONS: Final = ("north", "south", "east", "west")
REGION_SHARES: Final = (0.3, 0.3, 0.25, 0.15)
CHANNELS: Final = ("web", "branch", "broker")
PURPOSES: Final = ("car", "home", "debt", "study", "other")

SCHEMA: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "income", "kind": "numeric", "importance": 0.26, "min": 0},
    {"name": "loan_amount", "kind": "numeric", "importance": 0.12, "min": 0},
    {"name": "loan_months", "kind": "numeric", "importance": 0.05, "min": 0},
    {"name": "debt_to_income", "kind": "numeric", "importance": 0.24, "min": 0},
    {"name": "age", "kind": "numeric", "importance": 0.06, "min": 18, "max": 120},
    {"name": "employment_months", "kind": "numeric", "importance": 0.05, "min": 0, "max": 720},
    {"name": "late_payments", "kind": "numeric", "importance": 0.14, "min": 0},
    {"name": "employed", "kind": "boolean", "importance": 0.03},
    {"name": "region", "kind": "categorical", "importance": 0.02},
    {"name": "channel", "kind": "categorical", "importance": 0.01},
    {"name": "purpose", "kind": "categorical", "importance": 0.02},
)


@dataclass(frozen=True)
class LoanRows:
    """Predictions in order of time, with what the model saw and what came of the loan.

    ``ts`` is ``datetime64[us]`` in UTC; ``score`` is the predicted probability of class 1;
    ``truth`` the probability from which ``label`` was drawn.
    """

    ids: list[str]
    ts: Array
    features: dict[str, Array]
    score: Array
    prediction: Array
    label: Array
    truth: Array

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)


def month_start(end: datetime) -> datetime:
    """Return when the month that ends at ``end`` (midnight, UTC) starts."""
    return end - timedelta(days=DAYS)


def reference_rows(start: datetime, *, seed: int = SEED, rows: int = REFERENCE_ROWS) -> LoanRows:
    """Draw the labelled reference: the days before ``start``, when the model was right."""
    rng = np.random.default_rng([seed, _REFERENCE_STREAM])
    begin = start - timedelta(days=REFERENCE_DAYS)
    return _rows(rng, rows, begin, timedelta(days=REFERENCE_DAYS), day=-1)


def day_rows(start: datetime, day: int, *, seed: int = SEED, rows: int = ROWS_A_DAY) -> LoanRows:
    """Draw day ``day`` (from 0) of the month that starts at ``start``."""
    rng = np.random.default_rng([seed, day])
    return _rows(rng, rows, start + timedelta(days=day), timedelta(days=1), day=day)


def _rows(
    rng: np.random.Generator, n: int, begin: datetime, length: timedelta, *, day: int
) -> LoanRows:
    features = _customers(rng, n, shifted=day >= SHIFT_DAY)
    truth = _log_odds(features)
    if day >= CONCEPT_DAY:
        truth = truth - CONCEPT_LOSS * (features["region"] == CONCEPT_REGION)
    label = (rng.random(n) < _sigmoid(truth)).astype(np.int64)
    if UNIT_DAY <= day < UNIT_FIXED_DAY:
        # The model scores what it is sent: wrong input makes wrong scores.
        features["employment_months"] = np.round(features["employment_months"] * DAYS_A_MONTH)
    score = np.round(_sigmoid(_log_odds(features)), 6)
    ts = np.datetime64(begin.replace(tzinfo=None), "us") + np.sort(
        rng.integers(0, length // timedelta(microseconds=1), n)
    ).astype("timedelta64[us]")
    prefix = f"demo-{begin:%Y%m%d}" if day >= 0 else f"reference-{begin:%Y%m%d}"
    return LoanRows(
        ids=[f"{prefix}-{row:05d}" for row in range(n)],
        ts=ts,
        features=features,
        score=score,
        prediction=(score >= 0.5).astype(np.int64),  # noqa: PLR2004 - the even chance
        label=label,
        truth=_sigmoid(truth),
    )


def _customers(rng: np.random.Generator, n: int, *, shifted: bool) -> dict[str, Array]:
    age = np.round(np.clip(rng.normal(36.0 if shifted else 43.0, 11.0, n), 18, 90))
    employed = rng.random(n) < 0.88  # noqa: PLR2004 - a share of customers
    income = rng.lognormal(np.log(50_000.0 if shifted else 41_000.0), 0.45, n)
    loan = np.round(income * rng.lognormal(np.log(0.3), 0.5, n), -2)
    months = rng.choice(np.array([12.0, 24.0, 36.0, 48.0, 60.0]), n, p=[0.1, 0.25, 0.3, 0.2, 0.15])
    debts = rng.gamma(4.0, 0.05, n) + loan / income / 3
    employment = np.where(employed, np.round(rng.gamma(2.0, 36.0, n)), 0.0)
    return {
        "income": np.round(income, 2),
        "loan_amount": loan,
        "loan_months": months,
        "debt_to_income": np.round(debts, 4),
        "age": age,
        "employment_months": employment,
        "late_payments": rng.poisson(0.5, n).astype(np.float64),
        "employed": employed,
        "region": rng.choice(np.array(REGIONS), n, p=REGION_SHARES),
        "channel": rng.choice(np.array(CHANNELS), n, p=[0.6, 0.25, 0.15]),
        "purpose": rng.choice(np.array(PURPOSES), n, p=[0.35, 0.2, 0.2, 0.1, 0.15]),
    }


def _log_odds(features: Mapping[str, Array]) -> Array:
    return np.asarray(
        1.0
        + 1.6 * (np.log(features["income"]) - np.log(40_000.0))
        - 7.0 * (features["debt_to_income"] - 0.3)
        - 1.1 * (features["late_payments"] - 0.5)
        + 0.015 * (features["age"] - 43.0)
        # Like a tree, it does not extrapolate: more than 40 years count as 40.
        + 0.002 * (np.minimum(features["employment_months"], LONGEST_EMPLOYMENT) - 63.0)
        + 0.4 * (features["employed"].astype(np.float64) - 0.88)
        - 0.01 * (features["loan_months"] - 36.0)
        - 0.3 * (features["purpose"] == "debt")
    )


def _sigmoid(log_odds: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))
