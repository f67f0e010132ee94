"""A judgement is recorded: claim, window, measurements, pointers, request and outbox together."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from numbers import Real

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.access.audit import audit
from service.evaluation.judgement import Judgement
from service.evaluation.measurement import Direction, Verdict
from service.evaluation.measurement import Measurement as Measured
from service.evaluation.policy import Action
from service.ledger.marks import Item, mark
from service.ledger.repository import Claim, finish
from service.registry.monitor import MonitorDocument
from service.registry.values import VersionSpec
from service.retraining.repository import lock_version
from service.runs.asking import ask_for_retraining
from service.runs.findings import Basis, ask_for_findings
from service.runs.incidents import follow_incidents
from service.runs.tables import EvaluationWindow, LatestWindow, Measurement, Report, Window


def record(
    session: Session,
    claim: Claim,
    version: VersionSpec,
    judgement: Judgement,
    *,
    basis: Basis,
    document: MonitorDocument,
    missing: Sequence[str],
) -> None:
    """Record a judgement in the caller's transaction, or raise ``ClaimLostError``.

    A judgement that says nothing new keeps the revision, and so does one that only adds to what
    was said; a different one becomes the next.  ``missing`` are the engines of the row stage that
    have not seen these rows: they are asked to.
    """
    cleared = finish(session, [claim])
    if judgement.awaits_labels:
        mark(session, "maturity", [claim.item], after_end=document.performance.label_horizon)
    previous = latest_window(session, claim.item)
    silent = _is_silent(claim, previous, basis)
    digest = _digest(judgement, basis)
    if previous is None or previous.digest != digest:
        added = _additions(session, previous, judgement, basis) if previous else None
        if previous is not None and added is not None:
            _append(session, previous, judgement, digest, added)
        else:
            _insert_revision(session, claim, judgement, previous, basis, digest, silent=silent)
        if missing:
            ask_for_findings(session, claim.item, basis, missing)
        _point_latest(session, claim.item, judgement)
    elif not silent:
        previous.silent = False
    opened = None
    if not silent and version.stage != "retired":
        opened = _alert(
            session, claim.item, version, judgement, document, basis, pending=bool(missing)
        )
    # Otherwise an evaluation that was planned meanwhile asks for the judgement that follows.
    if cleared:
        same = previous is None or previous.digest == digest
        record_outcome(
            session,
            claim.item,
            "evaluated" if same else "revised",
            insufficient=all(v is Verdict.INSUFFICIENT_DATA for v in judgement.verdicts.values()),
        )
    if opened is not None:
        details = {"version": f"{version.model}@{version.version}", "action": judgement.action}
        audit(session, "worker", "retraining-request.open", f"retraining-request:{opened}", details)


def latest_window(session: Session, item: Item) -> Window | None:
    """Return what was last said of a window."""
    own = {"version_id": item.version_id, "start": item.start, "end": item.end}
    return session.scalar(select(Window).filter_by(**own).where(Window.latest))


def _is_silent(claim: Claim, previous: Window | None, basis: Basis) -> bool:
    """Say whether nobody is to be alerted.

    What the row stage finds in the rows and labels of a window that was judged silently is nothing
    new; anything that came since is.
    """
    if "silent" in claim.details:
        return bool(claim.details["silent"])
    return (
        previous is not None
        and previous.silent
        and previous.data_digest == basis.data_digest
        and previous.labelled == basis.labelled
    )


def _alert(
    session: Session,
    item: Item,
    version: VersionSpec,
    judgement: Judgement,
    document: MonitorDocument,
    basis: Basis,
    *,
    pending: bool,
) -> int | None:
    # Two workers that judge neighbours would not see each other's window otherwise.
    lock_version(session, version.version_id)
    follow_incidents(session, item, document, judgement.signals, pending=pending)
    asks = judgement.action is Action.RETRAIN and version.stage == "live"
    return ask_for_retraining(session, item, version, judgement, document, basis) if asks else None


def record_outcome(
    session: Session, item: Item, outcome: str, *, insufficient: bool = False
) -> None:
    """Tell the evaluations that wait for this window how it ended."""
    session.execute(
        update(EvaluationWindow)
        .where(
            EvaluationWindow.version_id == item.version_id,
            EvaluationWindow.start == item.start,
            EvaluationWindow.end == item.end,
            EvaluationWindow.outcome.is_(None),
        )
        .values(outcome=outcome, insufficient=insufficient)
    )


def measured_of(row: Measurement) -> Measured:
    """Return a recorded measurement as a value."""
    values = {field.name: getattr(row, field.name) for field in fields(Measured)}
    values["direction"] = Direction(row.direction)
    values["verdict"] = Verdict(row.verdict) if row.verdict else None
    return Measured(**values)


def _additions(
    session: Session, previous: Window, judgement: Judgement, basis: Basis
) -> list[Measured] | None:
    """Return what a judgement adds, or ``None`` if it says anything else than what was said."""
    unchanged = (
        previous.data_digest == basis.data_digest
        and previous.config_revision == basis.config_revision
        and previous.labelled == basis.labelled
        and previous.action == judgement.action
        and all(judgement.verdicts.get(name) == said for name, said in previous.verdicts.items())
    )
    if not unchanged:
        return None
    rows = session.scalars(select(Measurement).where(Measurement.window_id == previous.id))
    known = set(_rounded(measured_of(row) for row in rows))
    said = _rounded(judgement.measurements)
    added = [m for m, own in zip(judgement.measurements, said, strict=True) if own not in known]
    # A new alert is news even where its family has others.
    if not known <= set(said) or any(measured.verdict is Verdict.ALERT for measured in added):
        return None
    return added


def _append(
    session: Session,
    window: Window,
    judgement: Judgement,
    digest: str,
    measurements: Sequence[Measured],
) -> None:
    first = session.scalar(
        select(func.coalesce(func.max(Measurement.position) + 1, 0)).where(
            Measurement.window_id == window.id
        )
    )
    assert first is not None
    _insert_measurements(session, window.id, measurements, first)
    window.verdicts = {family: verdict.value for family, verdict in judgement.verdicts.items()}
    window.reason = judgement.reason
    window.digest = digest
    # The report of the window shows all of it.
    session.execute(delete(Report).where(Report.window_id == window.id))
    session.flush()


def _insert_revision(
    session: Session,
    claim: Claim,
    judgement: Judgement,
    previous: Window | None,
    basis: Basis,
    digest: str,
    *,
    silent: bool,
) -> None:
    if previous is not None:
        previous.latest = False
        session.flush()
    window = Window(
        model_id=claim.item.model_id,
        version_id=claim.item.version_id,
        start=claim.item.start,
        end=claim.item.end,
        revision=previous.revision + 1 if previous else 1,
        latest=True,
        rows=judgement.rows,
        labelled=judgement.labelled,
        label_coverage=judgement.label_coverage,
        verdicts={family: verdict.value for family, verdict in judgement.verdicts.items()},
        drifted_features=list(judgement.drifted_features),
        alerting_metrics=list(judgement.alerting_metrics),
        warnings=list(judgement.warnings),
        action=judgement.action.value,
        reason=judgement.reason,
        silent=silent,
        data_digest=basis.data_digest,
        digest=digest,
        reference_revision=basis.reference_revision,
        config_revision=basis.config_revision,
    )
    session.add(window)
    session.flush()
    _insert_measurements(session, window.id, judgement.measurements, 0)


def _insert_measurements(
    session: Session, window_id: int, measurements: Iterable[Measured], first: int
) -> None:
    rows = [
        {
            **asdict(measured),
            "direction": measured.direction.value,
            "verdict": measured.verdict.value if measured.verdict else None,
            "window_id": window_id,
            "position": position,
        }
        for position, measured in enumerate(measurements, first)
    ]
    if rows:
        session.execute(insert(Measurement), rows)


def _point_latest(session: Session, item: Item, judgement: Judgement) -> None:
    families = ["data"]
    families += [
        family
        for family, verdict in (
            ("estimate", judgement.verdicts["estimated_performance"]),
            ("performance", judgement.verdicts["performance"]),
        )
        if verdict is not Verdict.INSUFFICIENT_DATA
    ]
    statement = pg_insert(LatestWindow)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["version_id", "family"],
            set_={"start": statement.excluded.start, "end": statement.excluded.end},
            where=LatestWindow.end <= statement.excluded.end,
        ),
        [
            {
                "version_id": item.version_id,
                "family": family,
                "model_id": item.model_id,
                "start": item.start,
                "end": item.end,
            }
            for family in families
        ],
    )


def _digest(judgement: Judgement, basis: Basis) -> str:
    whole = repr((basis, judgement.action.value, _rounded(judgement.measurements)))
    return hashlib.sha256(whole.encode()).hexdigest()


def _rounded(measurements: Iterable[Measured]) -> list[tuple[object, ...]]:
    # Sums over the same rows in another order differ in their last digits, and say nothing new.
    return [
        tuple(f"{v:.10g}" if isinstance(v, Real) else v for v in asdict(measured).values())
        for measured in measurements
    ]


def record_failure(session: Session, item: Item) -> None:
    """Tell the evaluations that wait for windows over a span that these cannot be judged."""
    session.execute(
        update(EvaluationWindow)
        .where(
            EvaluationWindow.version_id == item.version_id,
            EvaluationWindow.start < item.end,
            EvaluationWindow.end > item.start,
            EvaluationWindow.outcome.is_(None),
        )
        .values(outcome="failed")
    )
