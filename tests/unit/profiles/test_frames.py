from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.profiles.frames import pack, unpack

values = arrays(np.float64, st.integers(0, 60), elements=st.floats())
sparse = arrays(np.float64, 60, elements=st.sampled_from([-0.0, 1.0, 3.0]), fill=st.just(0.0))
whole = arrays(np.int64, st.integers(0, 60), elements=st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.one_of(values, sparse, whole), max_size=4))
def test_arrays_come_back_bit_by_bit(given_arrays: list[Any]) -> None:
    head, found = unpack(b"T", pack(b"T", {"name": "é"}, given_arrays))
    assert head == {"name": "é"}
    assert len(found) == len(given_arrays)
    for left, right in zip(given_arrays, found, strict=True):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


def test_a_negative_zero_stays_negative() -> None:
    _, [found] = unpack(b"T", pack(b"T", {}, [np.array([-0.0, 1.0])]))
    assert np.signbit(found).tolist() == [True, False]


def test_a_later_version_is_refused() -> None:
    data = pack(b"T", {}, [])
    with pytest.raises(ValueError, match="version 1"):
        unpack(b"T", data[:3] + b"\x02" + data[4:])
