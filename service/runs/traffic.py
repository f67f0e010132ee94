"""What a window is told of its traffic beside the rows that were stored."""

from bisect import bisect_left
from itertools import accumulate

from sqlalchemy.orm import Session

from service.buckets.faults import load_faults
from service.buckets.repository import rows_by_bucket
from service.detection.volume import MOST_WEEKS
from service.evaluation.traffic import Earlier, Traffic
from service.ingest.tables import OTHERS
from service.ledger.calendar import BUCKET, Calendar, Interval, steps_in
from service.ledger.marks import Item

WRONG_TYPE = "wrong-type"
WEEKS = MOST_WEEKS + 1
# Where windows are no shorter than a week, so many of them.
LONG_WINDOWS = 12


def load_traffic(session: Session, item: Item, calendar: Calendar) -> Traffic:
    """Read what ingest counted of the span, and how many rows came before it."""
    type_errors, rejected, unknown = {}, {}, {}
    for field, code, rows in load_faults(session, item):
        if not field:
            rejected[code] = rows
        elif code == WRONG_TYPE:
            type_errors[field] = rows
        else:
            unknown["" if field == OTHERS else field] = rows
    earlier = _load_earlier(session, item, calendar)
    return Traffic(type_errors, rejected, unknown, earlier)


def _load_earlier(session: Session, item: Item, calendar: Calendar) -> Earlier:
    step = steps_in(calendar.length, calendar.every)
    lag = max(steps_in("1w", calendar.every), step)
    seasons = WEEKS if lag > step else LONG_WINDOWS
    windows = list(calendar.walk(Interval(item.start, item.end), -seasons * lag))
    buckets = rows_by_bucket(session, item.version_id, windows[-1].start, item.end)
    starts = [at for at, _ in buckets]
    sums = [0, *accumulate(rows for _, rows in buckets)]
    # The version may have begun in the midst of a window.
    rows = tuple(
        sums[bisect_left(starts, window.end)] - sums[bisect_left(starts, window.start)]
        for window in windows
        if starts and window.start >= starts[0]
    )
    last = f"{starts[-1] + BUCKET:%Y-%m-%d %H:%M} UTC" if starts else None
    hours = (item.end - item.start) / BUCKET
    return Earlier(rows, lag, step, hours, last)
