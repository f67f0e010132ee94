"""The intervals of all metrics hold the truth about as often as they say."""

import pytest

from tests.benchmarks.coverage import Case, cases, cover

WINDOWS = 600
CHOSEN = {
    ("base rate .15", 1000),
    ("weighted", 1000),
    ("three classes", 1000),
    ("normal errors", 1000),
}
SMALL = [case for case in cases() if (case.name, case.rows) in CHOSEN]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_promised_interval_covers_at_its_level(case: Case) -> None:
    found = cover(case, WINDOWS)
    assert sum(one.promised for one in found) >= len(found) / 2
    assert [one for one in found if one.promised and not one.is_kept] == []
