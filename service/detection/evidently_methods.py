"""What Evidently's drift tests mean, in a module that does not import Evidently.

The library says nowhere which of its scores are p-values; this table does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from service.profiles.columns import Column, Kind

PREFIX = "evidently."


class Scale(StrEnum):
    """What a score is."""

    DISTANCE = "distance"
    P_VALUE = "p_value"


@dataclass(frozen=True, slots=True)
class Method:
    """One of Evidently's drift tests.

    ``kinds`` are the column kinds that it measures; none of them for the tests of free text.
    ``max_rows`` is how many rows of a side it is given: some are quadratic.  ``equal_sides`` says
    that it raises unless both sides have the same number of rows.
    """

    scale: Scale
    threshold: float
    kinds: frozenset[Kind]
    max_rows: int = 50_000
    equal_sides: bool = False


_NUMERIC = frozenset({Kind.NUMERIC})
_CATEGORICAL = frozenset({Kind.CATEGORICAL, Kind.BOOLEAN})
_BOTH = _NUMERIC | _CATEGORICAL
_TEXT: frozenset[Kind] = frozenset()

METHODS: Mapping[str, Method] = {
    "wasserstein": Method(Scale.DISTANCE, 0.1, _NUMERIC),
    "ed": Method(Scale.DISTANCE, 0.1, _NUMERIC),
    "jensenshannon": Method(Scale.DISTANCE, 0.1, _BOTH),
    "psi": Method(Scale.DISTANCE, 0.1, _BOTH),
    "kl_div": Method(Scale.DISTANCE, 0.1, _BOTH),
    "hellinger": Method(Scale.DISTANCE, 0.1, _BOTH),
    "ks": Method(Scale.P_VALUE, 0.05, _NUMERIC),
    "anderson": Method(Scale.P_VALUE, 0.1, _NUMERIC),
    "cramer_von_mises": Method(Scale.P_VALUE, 0.1, _NUMERIC),
    "es": Method(Scale.P_VALUE, 0.05, _NUMERIC),
    # One-sided in Evidently: a current window that is lower gives p = 1.
    "mannw": Method(Scale.P_VALUE, 0.05, _NUMERIC),
    "t_test": Method(Scale.P_VALUE, 0.05, _NUMERIC),
    "empirical_mmd": Method(Scale.P_VALUE, 0.1, _NUMERIC, max_rows=500),
    # Takes the reference for exact: at 1,000 rows a side it alarms on a third of equal windows.
    "chisquare": Method(Scale.P_VALUE, 0.05, _CATEGORICAL),
    "z": Method(Scale.P_VALUE, 0.05, _CATEGORICAL),
    "g_test": Method(Scale.P_VALUE, 0.1, _CATEGORICAL, equal_sides=True),
    "fisher_exact": Method(Scale.P_VALUE, 0.1, _CATEGORICAL, equal_sides=True),
    "TVD": Method(Scale.P_VALUE, 0.1, _CATEGORICAL, max_rows=1_000),
    "perc_text_content_drift": Method(Scale.DISTANCE, 0.95, _TEXT, max_rows=1_000),
    "abs_text_content_drift": Method(Scale.DISTANCE, 0.55, _TEXT, max_rows=1_000),
}

DEFAULT_METHODS: Mapping[str, str] = {"numeric": "wasserstein", "categorical": "jensenshannon"}


def method_for(column: Column, methods: Mapping[str, str], overrides: Mapping[str, str]) -> str:
    """Return the name of the test for a column; booleans are categories.

    Parameters
    ----------
    column
        What is to be tested.
    methods
        Names by ``numeric`` and ``categorical``; an absent one is the default.
    overrides
        Names by column, which win.

    Raises
    ------
    KeyError
        If the name is not one of ``METHODS``.

    Examples
    --------
    >>> method_for(Column("employed", Kind.BOOLEAN), {"categorical": "psi"}, {})
    'psi'
    """
    family = "numeric" if column.kind is Kind.NUMERIC else "categorical"
    chosen = overrides.get(column.name) or methods.get(family, DEFAULT_METHODS[family])
    name = chosen.removeprefix(PREFIX)
    if name not in METHODS:
        raise KeyError(name)
    return name
