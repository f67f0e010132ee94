from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pytest

from service.profiles.columns import Classes, ManyClasses
from service.profiles.freeze import freeze_binning
from service.profiles.segments import segment_reference, segments_from_bytes

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def starts(times: list[datetime | None]) -> list[datetime | None]:
    rows = pa.table({"ts": pa.array(times, pa.timestamp("us", tz="UTC"))})
    binning = freeze_binning(rows, [], Classes("0", "1"))
    return [segment.start for segment in segment_reference(rows, [], binning)]


def test_few_hours_are_kept_as_hours() -> None:
    half = timedelta(minutes=30)
    assert starts([MONDAY + half, MONDAY, MONDAY + 3 * half]) == [
        MONDAY,
        MONDAY + timedelta(hours=1),
    ]


def test_many_hours_become_days() -> None:
    found = starts([MONDAY + timedelta(hours=i) for i in range(1001)])
    assert found == [MONDAY + timedelta(days=i) for i in range(42)]


def test_many_days_become_weeks_from_monday() -> None:
    found = starts([MONDAY + timedelta(days=i) for i in range(1001)])
    assert found == [MONDAY + timedelta(weeks=i) for i in range(143)]


def test_centuries_become_a_thousand_pieces_at_most() -> None:
    found = starts([MONDAY + timedelta(weeks=i) for i in range(7_900)])
    assert 500 <= len(found) <= 1_000
    lengths = {later - start for start, later in pairwise(found) if start and later}
    assert lengths == {timedelta(weeks=8)}


def test_the_histograms_of_many_classes_are_in_fewer_pieces() -> None:
    names = tuple(f"c{i}" for i in range(50))
    scores: dict[str, object] = {f"scores.{name}": [0.1, 0.5, 0.9] * 100 for name in names}
    times = pa.array([MONDAY + timedelta(hours=i) for i in range(300)], pa.timestamp("us", "UTC"))
    rows = pa.table({"ts": times, **scores})
    segments = segment_reference(rows, [], freeze_binning(rows, [], ManyClasses(names)))
    assert [s.start for s in segments] == [MONDAY + timedelta(days=i) for i in range(13)]


def test_rows_without_a_time_form_one_piece() -> None:
    assert starts([MONDAY, None, MONDAY]) == [None, MONDAY]


@pytest.mark.parametrize(("rows", "pieces"), [(0, 0), (1, 1), (99, 99), (1000, 100)])
def test_without_times_there_are_at_most_100_equal_pieces(rows: int, pieces: int) -> None:
    table = pa.table({"score": [0.5] * rows})
    binning = freeze_binning(table, [], Classes("0", "1"))
    sizes = [s.features.rows for s in segment_reference(table, [], binning)]
    assert (len(sizes), sum(sizes)) == (pieces, rows)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="kind S"):
        segments_from_bytes(b"\x04\x00\x00\x00oops")
