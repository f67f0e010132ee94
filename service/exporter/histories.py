"""What the collector reads of more than the newest windows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Interval, and_, column, func, select, true, values
from sqlalchemy.orm import Session

from service.alerts.tables import Signal
from service.evaluation.hysteresis import State
from service.registry.tables import Version
from service.runs.tables import Window

# How many of a version's newest windows are looked at for those that alert in a row.
MOST_IN_A_ROW = 24


def drifting_in_a_row(session: Session, version_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return in how many of the newest windows each feature drifts without a break.

    A window that could not be judged neither counts nor breaks the row; nor does a silent one,
    which says nothing of its own accord.
    """
    recent = (
        select(
            Window.start,
            Window.end,
            func.row_number().over(order_by=Window.start.desc()).label("place"),
        )
        .where(Window.version_id == Version.id, Window.latest, ~Window.silent)
        .order_by(Window.start.desc())
        .limit(MOST_IN_A_ROW)
        .lateral()
    )
    found = session.execute(
        select(Signal.version_id, Signal.subject, recent.c.place, Signal.state)
        .select_from(Version)
        .join(recent, true())
        .join(
            Signal,
            and_(
                Signal.version_id == Version.id,
                Signal.start == recent.c.start,
                Signal.end == recent.c.end,
            ),
        )
        .where(
            Version.id.in_(version_ids),
            Signal.kind == "drift",
            Signal.state.in_((State.ALERT.value, State.UNKNOWN.value)),
        )
        .order_by(Signal.version_id, Signal.subject, recent.c.place),
    )
    windows: defaultdict[int, dict[str, int]] = defaultdict(dict)
    reached: defaultdict[tuple[int, str], int] = defaultdict(int)
    for version_id, subject, place, state in found:
        key = (version_id, subject)
        if place == reached[key] + 1:
            reached[key] = place
            before = windows[version_id].get(subject, 0)
            windows[version_id][subject] = before + (state == State.ALERT.value)
    return windows


def mature_coverages(
    session: Session, horizons: Mapping[int, timedelta | None]
) -> dict[int, tuple[datetime, float]]:
    """Return end and label coverage of each version's newest window whose horizon has passed."""
    known = [(version_id, span) for version_id, span in horizons.items() if span is not None]
    if not known:
        return {}
    asked = values(
        column("version_id", BigInteger), column("horizon", Interval), name="asked"
    ).data(known)
    newest = (
        select(Window.end, Window.label_coverage)
        .where(
            Window.version_id == asked.c.version_id,
            Window.latest,
            Window.label_coverage.is_not(None),
            Window.end <= func.clock_timestamp() - asked.c.horizon,
        )
        .order_by(Window.start.desc())
        .limit(1)
        .lateral()
    )
    found = session.execute(
        select(asked.c.version_id, newest.c.end, newest.c.label_coverage)
        .select_from(asked)
        .join(newest, true())
    )
    return {version_id: (end, coverage) for version_id, end, coverage in found}
