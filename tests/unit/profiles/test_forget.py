"""Values are taken out of edges, and every bin stays where it is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.profiles.binning import Binning, CategoricalBins, NumericBins
from service.profiles.columns import Classes
from service.profiles.forget import forget, named_values
from service.profiles.freeze import freeze_numeric

CITIES = CategoricalBins(("Paris", "Tiny", "Rome"), frozenset({"a", "b", "c"}), 3, 1)


def binning(**columns: NumericBins | CategoricalBins) -> Binning:
    return Binning(columns, Classes("0", "1"), np.empty(0), None)


def test_a_category_gets_another_name_in_the_same_place() -> None:
    known = binning(city=CITIES)
    left = forget(known, {"city": {"Tiny", "b"}, "none": {"x"}}, {}).columns["city"]
    assert isinstance(left, CategoricalBins)
    assert left.categories == ("Paris", "erased #1", "Rome")
    assert left.rest == {"a", "c", "erased #3"}
    assert (left.n_bins, left.singletons, left.doubletons) == (CITIES.n_bins, 3, 1)
    again = forget(binning(city=left), {"city": {"Paris", "a", "c"}}, {}).columns["city"]
    assert isinstance(again, CategoricalBins)
    assert again.categories == ("erased #0", "erased #1", "Rome")
    assert len(again.rest) == 3


@given(
    st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=80),
    st.data(),
)
def test_edges_that_move_stay_ascending_and_forget_the_values(
    values: list[float], data: st.DataObject
) -> None:
    bins = freeze_numeric(np.array(values))
    known = binning(x=bins)
    named = sorted(v for v in named_values(known, "x") if isinstance(v, float))
    gone = set(data.draw(st.lists(st.sampled_from(named), max_size=4)))
    kept = [v for v in values if v not in gone]
    moves = {v: min(((abs(k - v), k) for k in kept), default=(0, v))[1] for v in gone}
    left = forget(known, {}, {"x": moves}).columns["x"]
    assert isinstance(left, NumericBins)
    assert left.n_bins == bins.n_bins
    for before, after in ((bins.edges, left.edges), (bins.atoms, left.atoms)):
        assert len(before) == len(after)
        assert (np.diff(after) > 0).all()
    assert not gone & named_values(binning(x=left), "x")
    if len(left.edges):
        assert (left.minimum, left.maximum) == (left.edges[0], left.edges[-1])
