"""What needs the rows of a window, not its profile: steps over one sample, each on its own.

For the worker's child process: steps may import what takes seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from service.evaluation.concept_losses import STEP as CONCEPT
from service.evaluation.concept_losses import judge_loss_surprises
from service.evaluation.direct_loss import STEP as DIRECT_LOSS
from service.evaluation.direct_loss import Fitted, judge_direct_loss
from service.evaluation.discovery import SUMMARY as DISCOVERED
from service.evaluation.discovery import Discovery, discover
from service.evaluation.explanation import ESTIMATED, explain_estimated, explain_realised
from service.evaluation.measurement import Direction, Measurement, unmeasured
from service.evaluation.multivariate import (
    CLASSIFIER,
    EMBEDDINGS,
    RECONSTRUCTION,
    judge_classifier,
    judge_embeddings,
    judge_reconstruction,
)
from service.evaluation.window import Policies
from service.profiles.binning import Binning
from service.profiles.columns import Column, Quantity

ENGINE = "rows"
LABELLED_ENGINE = "labelled_rows"


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Rows of the reference and of a window under the features' real names.

    Beside the features either may have ``ts``, ``prediction``, ``score`` (``scores.<class>``),
    ``weight``, ``label`` (null where it is not known) and ``tags.<name>``.  ``columns`` are the
    features; ``binning`` knows the output.
    """

    reference: pa.Table
    current: pa.Table
    columns: tuple[Column, ...]
    binning: Binning


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is measured on rows; ``name`` is the metric that a failure is recorded as.

    What one that ``uses_labels`` found holds until labels come, any other until rows come.
    """

    name: str
    measure: Callable[[Sampled, Policies], list[Measurement]]
    uses_labels: bool = False

    @property
    def engine(self) -> str:
        """Return the engine of what it measures."""
        return LABELLED_ENGINE if self.uses_labels else ENGINE


def _discover(sampled: Sampled, policies: Policies) -> list[Measurement]:
    """Find slices, and say what accounts for the loss, they among others."""
    rows = (sampled.reference, sampled.current, sampled.columns, sampled.binning)
    found = Discovery([], {})
    if policies.discovery is not None:
        found = discover(*rows, policies.discovery)
    return [*found.measurements, *explain_realised(*rows, policies.performance, found.slices)]


def _explain(sampled: Sampled, policies: Policies) -> list[Measurement]:
    return explain_estimated(
        sampled.reference, sampled.current, sampled.columns, sampled.binning, policies.performance
    )


# The child process lives on: one reference's models serve all its windows.
_FITTED = Fitted()


def _estimate_losses(sampled: Sampled, policies: Policies) -> list[Measurement]:
    if not isinstance(sampled.binning.output, Quantity):
        return []
    return judge_direct_loss(
        sampled.reference, sampled.current, sampled.columns, policies.performance, _FITTED
    )


def _compare_losses(sampled: Sampled, policies: Policies) -> list[Measurement]:
    if not isinstance(sampled.binning.output, Quantity):
        return []
    return judge_loss_surprises(
        sampled.reference, sampled.current, sampled.columns, policies.performance, _FITTED
    )


STEPS: tuple[Step, ...] = (
    Step(DIRECT_LOSS, _estimate_losses),
    Step(CLASSIFIER, judge_classifier),
    Step(RECONSTRUCTION, judge_reconstruction),
    Step(EMBEDDINGS, judge_embeddings),
    Step(CONCEPT, _compare_losses, uses_labels=True),
    Step(DISCOVERED, _discover, uses_labels=True),
    Step(ESTIMATED, _explain),
)


def engines_for(labelled: int, steps: Sequence[Step] | None = None) -> tuple[str, ...]:
    """Return the engines that have something to do in a window with so many labels.

    Examples
    --------
    >>> engines_for(0, [Step("roc_auc", lambda *_: [], uses_labels=True)])
    ()
    """
    known = STEPS if steps is None else steps
    found = {step.engine for step in known if labelled or not step.uses_labels}
    return tuple(sorted(found, reverse=True))


def measure_rows(
    sampled: Sampled, policies: Policies, engine: str, steps: Sequence[Step] | None = None
) -> list[Measurement]:
    """Take every step of one engine; one that raises costs only what it would have measured.

    Parameters
    ----------
    sampled
        The rows of both sides.
    policies
        What the monitor asks for.
    engine
        ``rows``, or ``labelled_rows`` for the steps that use labels.
    steps
        By default all there are.

    Returns
    -------
    list of Measurement
        In the order of the steps; a failed one is a measurement without a value.
    """
    found: list[Measurement] = []
    for step in STEPS if steps is None else steps:
        if step.engine != engine:
            continue
        try:
            measured = step.measure(sampled, policies)
        except Exception as error:  # noqa: BLE001  one step's failure must not cost the others
            measured = [failure(step, f"failed: {type(error).__name__}")]
        found += (replace(one, engine=engine) for one in measured)
    return found


def failures(engine: str, reason: str, steps: Sequence[Step] | None = None) -> list[Measurement]:
    """Return what is recorded of an engine's steps when none of them could be taken."""
    known = STEPS if steps is None else steps
    return [failure(step, reason) for step in known if step.engine == engine]


def failure(step: Step, reason: str) -> Measurement:
    """Return what is recorded of a step that could not be taken."""
    return unmeasured(
        step.name,
        0,
        reason,
        method=step.name,
        engine=step.engine,
        direction=Direction.INFORMATION,
    )
