"""A window that asks for retraining is heard once k of n windows say so for the same cause."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from service.alerts.tables import Signal
from service.evaluation.causes import Cause, cause_of
from service.evaluation.hysteresis import State, confirmed
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Measurement, Verdict
from service.evaluation.policy import Action
from service.ledger.calendar import Interval
from service.ledger.marks import Item
from service.registry.monitor import MonitorDocument
from service.registry.values import VersionSpec
from service.retraining.events import Asked
from service.retraining.repository import live_request
from service.retraining.service import request_retraining
from service.runs.evidence import explained_windows, where_lost
from service.runs.findings import Basis
from service.runs.incidents import calendar_of
from service.runs.overfit import SAID, Gaps
from service.runs.tables import Window

Windows = dict[int, tuple[datetime, datetime]]

# A loss that was estimated is the one that labels confirm.
_LOSSES = frozenset({"performance", "estimated_performance", "concept"})


def ask_for_retraining(
    session: Session,
    item: Item,
    version: VersionSpec,
    judgement: Judgement,
    document: MonitorDocument,
    basis: Basis,
) -> int | None:
    """Ask for retraining, with every window that confirms it, once k of n say the same.

    The caller holds the version's lock, and logs the request that this has opened, if any.
    """
    k, n = document.alert.k_of_n
    neighbours = _neighbours(session, item, document, n)
    asking = {
        signal.cause
        for signal in judgement.signals
        if signal.state is State.ALERT and signal.action is Action.RETRAIN
    }
    own = {_trouble(cause.kind, cause.slice) for cause in asking}
    windows: Windows = {}
    for trouble in own:
        bad = neighbours[trouble] | {0: (item.start, item.end)}
        windows.update({at: bad[at] for at in confirmed(bad, 0, k, n)})
    if not windows:
        return None
    reason = judgement.reason
    if Gaps(session, version.model_id).has(version.version_id, item.start, judgement.verdicts):
        reason = f"{reason}; {SAID}"
    # The window that was judged comes first: what it says becomes the reason.
    spans = [windows[position] for position in sorted(windows, key=abs)]
    where = where_lost(explained_windows(session, version.version_id, spans))
    known = live_request(session, version.version_id)
    for span in spans:
        request_retraining(
            session,
            model_id=version.model_id,
            version_id=version.version_id,
            model=version.model,
            version=version.version,
            action=judgement.action.value,
            reason=reason,
            window=span,
            signals=_signals(judgement.measurements, asking),
            asked=_asked(spans, judgement, basis, where),
            cooldown=document.retraining.cooldown,
            webhooks=document.retraining.webhooks,
        )
    return live_request(session, version.version_id) if known is None else None


def _asked(
    spans: Sequence[tuple[datetime, datetime]], judgement: Judgement, basis: Basis, where: str
) -> Asked:
    return Asked(
        windows=spans,
        rows=judgement.rows,
        labelled=judgement.labelled,
        reference_revision=basis.reference_revision,
        monitor_revision=basis.config_revision,
        where=where,
    )


def _trouble(kind: str, named: str) -> tuple[str, str]:
    return ("loss", "") if kind in _LOSSES else (kind, named)


def _neighbours(
    session: Session, item: Item, document: MonitorDocument, n: int
) -> defaultdict[tuple[str, str], Windows]:
    """Return the windows nearby that ask for retraining, by trouble and calendar distance."""
    calendar = calendar_of(document)
    found = session.execute(
        select(Signal.kind, Signal.slice, Window.start, Window.end)
        .join(
            Window,
            and_(
                Window.version_id == Signal.version_id,
                Window.start == Signal.start,
                Window.end == Signal.end,
                Window.latest,
            ),
        )
        .where(
            Signal.version_id == item.version_id,
            Signal.action == Action.RETRAIN.value,
            Window.action == Action.RETRAIN.value,
            Window.start > calendar.before(item.start, n),
            Window.start < item.start + (item.start - calendar.before(item.start, n)),
        )
    )
    windows: defaultdict[tuple[str, str], Windows] = defaultdict(dict)
    for kind, named, start, end in found:
        if calendar.has(Interval(start, end)):
            windows[_trouble(kind, named)][calendar.position(item.start, start)] = (start, end)
    return windows


def _signals(
    measurements: Sequence[Measurement], asking: Collection[Cause]
) -> list[dict[str, object]]:
    """Describe what alerts, first what asks for retraining.

    An event names only so many: drift of a hundred features must not hide the loss.
    """
    alerts = [measured for measured in measurements if measured.verdict is Verdict.ALERT]
    alerts.sort(key=lambda measured: cause_of(measured) not in asking)
    return [
        {
            "metric": measured.metric,
            "subject": measured.subject,
            "slice": measured.slice,
            "value": measured.value,
            "ci_low": measured.ci_low,
            "ci_high": measured.ci_high,
            "threshold": measured.threshold,
            "reference_value": measured.reference_value,
            "n": measured.n,
            "n_reference": measured.n_reference,
            "p_value": measured.p_value,
            "method": measured.method,
            "direction": measured.direction.value,
            "reason": measured.reason,
        }
        for measured in alerts
    ]
