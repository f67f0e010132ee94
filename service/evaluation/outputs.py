"""What a model puts out, beside what it put out on its reference: recorded, not judged."""

from collections.abc import Iterator

from service.detection.outputs import measure_outputs
from service.detection.shares import PREDICTION_SHARE, prediction_shares
from service.evaluation.measurement import Direction, Measurement
from service.profiles.binning import Binning
from service.profiles.profile import FeatureProfile


def record_outputs(
    binning: Binning, reference: FeatureProfile | None, current: FeatureProfile
) -> list[Measurement]:
    """Measure the rates and the mean of a window's predictions.

    They have no verdict: neither side is the worse one, and the drift of ``prediction`` and
    ``score`` is already judged, by the same counts and with calibrated levels.

    Parameters
    ----------
    binning
        Whose edges both profiles share.
    reference
        The reference's rows; ``None`` without one.
    current
        The window's rows.

    Returns
    -------
    list of Measurement
        ``selection_rate`` and ``prediction_mean``, of a class where it has the ``subject``; with a
        reference ``prediction_share``, of a bucket.
    """
    before = {} if reference is None else measure_outputs(reference, binning)
    found = []
    for (name, subject), value in measure_outputs(current, binning).items():
        known = before.get((name, subject))
        found.append(
            Measurement(
                metric=name,
                subject=subject,
                value=value.value,
                n=value.n,
                method=value.method,
                direction=Direction.INFORMATION,
                verdict=None,
                ci_low=value.ci_low,
                ci_high=value.ci_high,
                n_eff=value.n_eff,
                n_reference=None if known is None else known.n,
                reference_value=None if known is None else known.value,
                reason=value.reason,
            )
        )
    if reference is not None:
        found += _shares(binning, reference, current)
    return found


def _shares(
    binning: Binning, reference: FeatureProfile, current: FeatureProfile
) -> Iterator[Measurement]:
    for share in prediction_shares(binning, reference, current):
        yield Measurement(
            metric=PREDICTION_SHARE,
            subject=share.bucket,
            value=share.value,
            n=share.n,
            method="count",
            direction=Direction.INFORMATION,
            verdict=None,
            n_reference=share.n_reference,
            reference_value=share.reference_value,
        )
