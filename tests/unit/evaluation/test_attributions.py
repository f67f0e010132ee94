"""Attributions: their drift is judged with all drift, and is no input's."""

import numpy as np
import pyarrow as pa

from service.evaluation.causes import cause_of
from service.evaluation.drift import judge_drift
from service.evaluation.drift_columns import ColumnDriftPolicy, DriftPolicy
from service.evaluation.policy import family_of
from service.evaluation.quality import QualityPolicy, judge_quality
from service.profiles.build import profile_features
from service.profiles.columns import Classes, Column, Kind
from service.profiles.freeze import freeze_binning

NAME = "attributions.income"
COLUMNS = [Column("income", Kind.NUMERIC), Column(NAME, Kind.NUMERIC)]


def a_window(seed: int, rows: int, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"income": rng.normal(size=rows), NAME: rng.normal(shift, 1, rows)})


REFERENCE = a_window(1, 5000)
BINNING = freeze_binning(REFERENCE, COLUMNS, Classes("0", "1"))
BEFORE = profile_features(REFERENCE, COLUMNS, BINNING)


def test_their_drift_has_a_name_and_a_cause_of_its_own() -> None:
    after = profile_features(a_window(2, 1000, shift=1.0), COLUMNS, BINNING)
    found = judge_drift(BINNING, BEFORE, [], after, DriftPolicy())
    verdicts = {(m.metric, m.subject): m.verdict for m in found}
    assert verdicts["attribution_drift", "income"] == "alert"
    assert verdicts["drift", "income"] == "ok"
    assert {family_of(m) for m in found} == {"drift"}
    causes = [cause_of(m) for m in found if m.subject == "income"]
    assert len(set(causes)) == 2


def test_it_can_be_ignored_by_its_own_name() -> None:
    policy = DriftPolicy(columns={NAME: ColumnDriftPolicy(ignore=True)})
    found = judge_drift(BINNING, BEFORE, [], BEFORE, policy)
    assert [m.metric for m in found if m.subject == "income"] == ["drift"]


def test_attributions_of_some_rows_only_are_no_bad_data() -> None:
    rows = a_window(2, 1000).set_column(1, NAME, [[*[None] * 900, *[1e9] * 100]])
    after = profile_features(rows, COLUMNS, BINNING)
    found = judge_quality(BINNING, BEFORE, [], after, QualityPolicy(), columns=COLUMNS)
    assert {m.subject for m in found} == {None, "income"}
