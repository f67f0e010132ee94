"""A window that asks for retraining is heard once k of n windows say the same."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.evaluation.hysteresis import confirmed
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.policy import Action
from service.evaluation.window import Judgement
from service.ledger.calendar import steps_between
from service.ledger.repository import Item
from service.registry.monitor import MonitorDocument
from service.registry.values import VersionSpec
from service.retraining.repository import lock_version
from service.retraining.service import request_retraining
from service.runs.tables import Window


def ask_for_retraining(
    session: Session,
    item: Item,
    version: VersionSpec,
    judgement: Judgement,
    document: MonitorDocument,
) -> None:
    """Ask for retraining, with every window that confirms it, once k of n say the same."""
    # Two workers that judge neighbours would not see each other's window otherwise.
    lock_version(session, version.version_id)
    k, n = document.alert.k_of_n
    windows = _bad_neighbours(session, item, document, n)
    # The window that was judged comes first: what it says becomes the reason.
    for position in sorted(confirmed(windows, 0, k, n), key=abs):
        start, end = windows[position]
        request_retraining(
            session,
            model_id=version.model_id,
            version_id=version.version_id,
            model=version.model,
            version=version.version,
            action=judgement.action.value,
            reason=judgement.reason,
            start=start,
            end=end,
            signals=_signals(judgement.measurements),
        )


def _bad_neighbours(
    session: Session, item: Item, document: MonitorDocument, n: int
) -> dict[int, tuple[datetime, datetime]]:
    # By their distance in the calendar; no window is longer than a month.
    reach = n * timedelta(days=32)
    zone = ZoneInfo(document.timezone)
    found = session.execute(
        select(Window.start, Window.end).where(
            Window.version_id == item.version_id,
            Window.latest,
            Window.action == Action.RETRAIN.value,
            Window.start.between(item.start - reach, item.start + reach),
        )
    )
    return {
        steps_between(item.start, start, document.every, zone): (start, end) for start, end in found
    } | {0: (item.start, item.end)}


def _signals(measurements: Sequence[Measurement]) -> list[dict[str, object]]:
    return [
        {
            "metric": measured.metric,
            "subject": measured.subject,
            "slice": measured.slice,
            "value": measured.value,
            "threshold": measured.threshold,
            "reference_value": measured.reference_value,
            "n": measured.n,
        }
        for measured in measurements
        if measured.verdict is Verdict.ALERT
    ]
