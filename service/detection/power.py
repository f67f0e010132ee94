"""How small a change a window of this size could have shown: the minimum detectable effect."""

from math import isfinite, sqrt

from scipy.special import chdtrc, chndtrinc, ndtri

from service.detection.comparison import Test
from service.detection.methods import DriftMethod

POWER = 0.8


def noncentrality(statistic: float, df: int, power: float = POWER) -> float:
    """Return how far from equal two windows must be for χ² to pass ``statistic`` often enough.

    Parameters
    ----------
    statistic
        The critical one, ``>= 0``.
    df
        Degrees of freedom, at least 1.
    power
        With which probability it is to be passed, in (0, 1).

    Returns
    -------
    float
        λ ``>= 0`` with P(χ'²(df, λ) > statistic) = power; 0 if chance alone passes as often.

    References
    ----------
    P. Patnaik, The non-central χ²- and F-distributions and their applications, Biometrika 36
    (1949).

    Examples
    --------
    >>> round(noncentrality(3.841459, 1), 3)  # (1.96 + 0.8416)², but for the other tail
    7.849
    """
    if chdtrc(df, statistic) >= power:
        return 0.0
    return float(chndtrinc(statistic, df, 1 - power))


def detectable_effect(
    test: Test, level: float, method: DriftMethod, min_effect: float, power: float = POWER
) -> float | None:
    """Return the score from which on a change is an alert in most windows of this size.

    Parameters
    ----------
    test
        Of the whole distribution, between the two windows.
    level
        At which it alerts, all corrections included.
    method
        Of the score.
    min_effect
        That the score must pass as well.
    power
        The share of the windows that alert.

    Returns
    -------
    float or None
        The larger of two scores: the one that the test finds, ``(scale · λ · spread) ** exponent``
        with λ of the noncentral χ² of its groups, and the one whose estimate passes
        ``min_effect``, normal with a variance of ``scale · spread`` on the scale of the root.
        Where chunks of the reference differ by more than chance, both noises grow by what they
        differ.  ``None`` if the method has no score that large.

        It holds for a change that spreads over the groups, to the second order in its size: in
        simulations with a reference of 5,000 rows, .75 to .95 of the windows of 1,000 rows and more
        alert.  At 100 rows the score is more than a fifth of the scale, and a change within one of
        the four groups, or a share that vanishes, is found later; a change of the level alone is
        found earlier, by a test of its own.

    Examples
    --------
    >>> from service.detection.methods import METHODS
    >>> from service.detection.variability import STEADY
    >>> for n in (100, 10_000, 1_000_000):
    ...     test = Test(0.0, 3, 1 / 10_000_000 + 1 / n, STEADY)
    ...     print(round(detectable_effect(test, 0.005, METHODS["jensen_shannon"], 0.0), 3))
    0.177
    0.018
    0.002
    """
    varies, chunks = test.variability.rho, test.variability.chunks
    noise = 1 + varies * (1 + 1 / chunks) / test.spread if varies > 0 else 1.0
    found = noise * noncentrality(test.critical(level) / noise, test.df, power)
    by_test = (method.scale * found * test.spread) ** method.exponent
    # The root of the statistic has a deviation of about 1 at any distance.
    z = max(float(ndtri(power)), 0.0)
    root = 1 / (2 * method.exponent)
    by_effect = (min_effect**root + z * sqrt(method.scale * test.spread * noise)) ** (1 / root)
    score = max(by_test, by_effect)
    possible = isfinite(score) and (method.upper is None or score <= method.upper)
    return float(score) if possible else None
