"""Each step over the rows of a window stands alone."""

from dataclasses import replace

import pyarrow as pa

from service.evaluation.drift_columns import DriftPolicy
from service.evaluation.judgement import conclude
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.performance import PerformancePolicy
from service.evaluation.quality import QualityPolicy
from service.evaluation.rows import (
    ENGINE,
    LABELLED_ENGINE,
    Sampled,
    Step,
    engines_for,
    failures,
    measure_rows,
)
from service.evaluation.window import Policies
from service.profiles.columns import Classes
from service.profiles.freeze import freeze_binning

FOUND = Measurement(
    metric="drift",
    subject="income",
    value=0.3,
    n=2,
    method="m",
    direction=Direction.HIGHER_IS_WORSE,
    verdict=Verdict.OK,
)
ROWS = pa.table({"income": [1.0, 2.0]})
SAMPLED = Sampled(ROWS, ROWS, (), freeze_binning(ROWS, [], Classes("0", "1")))
POLICIES = Policies(DriftPolicy(), QualityPolicy(), PerformancePolicy())


def _fails(*_: object) -> list[Measurement]:
    raise ZeroDivisionError


STEPS = (
    Step("broken", _fails),
    Step("works", lambda *_: [FOUND]),
    Step("labelled", lambda *_: [FOUND, FOUND], uses_labels=True),
)


def test_a_step_that_raises_costs_only_its_own_measurements() -> None:
    broken, works = measure_rows(SAMPLED, POLICIES, ENGINE, STEPS)
    assert (broken.metric, broken.value, broken.verdict) == (
        "broken",
        None,
        Verdict.INSUFFICIENT_DATA,
    )
    assert broken.reason == "failed: ZeroDivisionError"
    assert works == replace(FOUND, engine=ENGINE)


def test_steps_that_use_labels_are_taken_apart_from_those_that_do_not() -> None:
    assert len(measure_rows(SAMPLED, POLICIES, LABELLED_ENGINE, STEPS)) == 2
    assert engines_for(5, STEPS) == (ENGINE, LABELLED_ENGINE)
    assert engines_for(0, STEPS) == (ENGINE,)


def test_every_step_of_an_engine_that_gave_up_has_its_reason() -> None:
    assert [(m.metric, m.reason) for m in failures(ENGINE, "gave up: TimeoutError", STEPS)] == [
        ("broken", "gave up: TimeoutError"),
        ("works", "gave up: TimeoutError"),
    ]


def test_there_is_no_verdict_on_what_was_not_looked_for_yet() -> None:
    families = POLICIES.families
    assert set(conclude(2, 0, [], [], families).verdicts) == set(families)
    group = replace(FOUND, metric="roc_auc", slice="plan=a")
    assert conclude(2, 0, [group], [], families).verdicts["slices"] is Verdict.OK
