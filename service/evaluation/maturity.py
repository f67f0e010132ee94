"""Whether a window's labels can be judged: enough of them are in, and they are not a selection."""

from dataclasses import dataclass

from service.detection.selection import Selection, compare_labelled
from service.evaluation.multiplicity import sidak_adjust
from service.profiles.binning import Binning
from service.profiles.columns import ManyClasses
from service.profiles.profile import FeatureProfile, Performance, RegressionProfile

IMMATURE = "immature"
SELECTED = "selected_labels"

# The few labels that never come do not keep a window waiting, and cannot bend it much.
COMPLETE = 0.95
ALPHA = 0.01
# Half of what is drift: a selection on the label shows in the scores in part only.
MIN_DISTANCE = 0.05
MIN_DEVIATIONS = 0.1


@dataclass(frozen=True, slots=True)
class Maturity:
    """Why no verdict may rest on the labels yet, if it may not; and what is odd about them."""

    withheld: str | None
    warnings: tuple[dict[str, str], ...]

    @property
    def waits(self) -> bool:
        """Return whether time alone will allow the verdict."""
        return self.withheld == IMMATURE


def assess_labels(
    binning: Binning,
    features: FeatureProfile,
    performance: Performance,
    *,
    horizon_passed: bool | None,
) -> Maturity:
    """Decide whether a window's labels may be judged.

    Labels that come early need not be like the others: defaults are known before repayments.  Such
    a selection on the label shows in the scores only as far as these tell the labels, hence the
    waiting; where it does show, it is said.

    Parameters
    ----------
    binning
        Whose edges both profiles share.
    features
        All rows of the window.
    performance
        Its labelled rows.
    horizon_passed
        Whether the window is older than labels take to come; ``None`` where nobody said how long
        that is.

    Returns
    -------
    Maturity
        A window with a label for 95 % of its rows is mature at once, any other once the horizon
        has passed.  Without a horizon labels are judged as they come unless they are selected.
    """
    coverage = performance.labelled / features.rows if features.rows else 0.0
    if coverage >= COMPLETE:
        return Maturity(None, ())
    selected = _selected(compare_labelled(binning, features, performance))
    withheld = None
    if horizon_passed is None:
        withheld = SELECTED if selected else None
    elif not horizon_passed:
        withheld = IMMATURE
    if selected is None:
        return Maturity(withheld, ())
    detail = _sentence(binning, performance, selected)
    return Maturity(withheld, ({"code": "selected-labels", "detail": detail},))


def _selected(found: list[Selection]) -> Selection | None:
    """Return the clearest selection that chance does not explain, with its adjusted p-value."""
    beyond = [s for s in found if sidak_adjust(s.p_value, len(found)) < ALPHA and _matters(s)]
    return min(beyond, key=lambda s: s.p_value, default=None)


def _matters(selection: Selection) -> bool:
    of_means = selection.output == "prediction" and selection.upward is not None
    return selection.effect >= (MIN_DEVIATIONS if of_means else MIN_DISTANCE)


def _sentence(binning: Binning, performance: Performance, selection: Selection) -> str:
    rows = f"the {selection.labelled} rows with a label"
    others = f"the {selection.unlabelled} without"
    if selection.upward is None:
        how = f"{rows} are predicted otherwise than {others}"
    else:
        what = "predictions" if isinstance(performance, RegressionProfile) else "scores"
        if isinstance(binning.output, ManyClasses):
            what += f" of {selection.output}"
        side = "higher" if selection.upward else "lower"
        how = f"{rows} have {side} {what} than {others}"
    return f"{how}: what is measured on them need not hold for all"
