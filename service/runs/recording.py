"""A judgement is recorded: claim, window, measurements, pointers, request and outbox together."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta

from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.evaluation.causes import signals_of
from service.evaluation.drift import LABEL
from service.evaluation.measurement import Measurement as Measured
from service.evaluation.measurement import Verdict
from service.evaluation.policy import Action, family_of
from service.evaluation.window import Judgement
from service.ledger.repository import Claim, Item, finish, mark
from service.registry.monitor import MonitorDocument
from service.registry.values import MonitorSpec, VersionSpec
from service.retraining.repository import lock_version
from service.runs.asking import ask_for_retraining
from service.runs.incidents import follow_incidents
from service.runs.tables import EvaluationWindow, LatestWindow, Measurement, Window

# The second instrument imports for seconds; it waits until the verdicts that people wait for are
# out.
SECOND_INSTRUMENT_DELAY = timedelta(seconds=15)


def record(
    session: Session,
    claim: Claim,
    version: VersionSpec,
    judgement: Judgement,
    *,
    reference_revision: int | None,
    monitor: MonitorSpec,
    second_instrument: bool,
) -> None:
    """Record a judgement in the caller's transaction, or raise ``ClaimLostError``.

    A judgement that says nothing new keeps the revision; a different one becomes the next.
    """
    cleared = finish(session, [claim])
    silent = bool(claim.details.get("silent"))
    previous = session.scalar(
        select(Window).where(
            Window.version_id == version.version_id,
            Window.start == claim.item.start,
            Window.end == claim.item.end,
            Window.latest,
        )
    )
    digests = _digests(judgement, reference_revision, monitor.revision)
    if previous is None or previous.digest != digests[1]:
        window = _insert_revision(
            session,
            claim,
            judgement,
            previous,
            digests,
            {
                "silent": silent,
                "reference_revision": reference_revision,
                "config_revision": monitor.revision,
            },
        )
        carried = (
            previous is not None
            and previous.data_digest == digests[0]
            and _carry_second_instrument(session, previous.id, window, len(judgement.measurements))
        )
        # What is under way for the revision before is dropped when it comes: ask for it again.
        if not carried and second_instrument and reference_revision is not None:
            mark(
                session,
                "evidently",
                [claim.item],
                after_end=timedelta(0),
                quiet=SECOND_INSTRUMENT_DELAY,
            )
        _point_latest(session, claim.item, judgement)
    elif not silent:
        previous.silent = False
    if not silent and version.stage != "retired":
        _alert(session, claim.item, version, judgement, monitor.document)
    if not cleared:
        # An evaluation that was planned meanwhile asks for the judgement that follows.
        return
    record_outcome(
        session,
        claim.item,
        "evaluated" if previous is None or previous.digest == digests[1] else "revised",
        insufficient=all(v is Verdict.INSUFFICIENT_DATA for v in judgement.verdicts.values()),
    )


def _alert(
    session: Session,
    item: Item,
    version: VersionSpec,
    judgement: Judgement,
    document: MonitorDocument,
) -> None:
    # Two workers that judge neighbours would not see each other's window otherwise.
    lock_version(session, version.version_id)
    signals = signals_of(
        judgement.measurements,
        realised=judgement.verdicts["performance"] is not Verdict.INSUFFICIENT_DATA,
    )
    follow_incidents(session, item, document, signals)
    if judgement.action is Action.RETRAIN and version.stage == "live":
        ask_for_retraining(session, item, version, judgement, document, signals)


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


def append_measurements(session: Session, window_id: int, measurements: Iterable[Measured]) -> None:
    """Add what another instrument measured to a recorded window."""
    first = session.scalar(
        select(func.coalesce(func.max(Measurement.position) + 1, 0)).where(
            Measurement.window_id == window_id
        )
    )
    assert first is not None
    _insert_measurements(session, window_id, measurements, first)


def _insert_revision(
    session: Session,
    claim: Claim,
    judgement: Judgement,
    previous: Window | None,
    digests: tuple[str, str],
    provenance: dict[str, object],
) -> int:
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
        data_digest=digests[0],
        digest=digests[1],
        **provenance,
    )
    session.add(window)
    session.flush()
    _insert_measurements(session, window.id, judgement.measurements, 0)
    return window.id


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


def _carry_second_instrument(
    session: Session, previous_id: int, window_id: int, first: int
) -> bool:
    # New labels do not move the rows that it measured.
    copied = [
        column
        for column in Measurement.__table__.columns
        if column.name not in {"window_id", "position"}
    ]
    position = func.row_number().over(order_by=Measurement.position) - 1 + first
    statement = insert(Measurement).from_select(
        ["window_id", "position", *(column.name for column in copied)],
        select(literal(window_id), position, *copied).where(
            Measurement.window_id == previous_id, Measurement.engine == "evidently"
        ),
    )
    return bool(session.scalars(statement.returning(Measurement.position)).all())


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


def _digests(
    judgement: Judgement, reference_revision: int | None, config_revision: int
) -> tuple[str, str]:
    data = [
        measured
        for measured in judgement.measurements
        if family_of(measured) in {"drift", "quality"} and measured.subject != LABEL
    ]
    of_data = repr((reference_revision, judgement.rows, _rounded(data)))
    measured = _rounded(judgement.measurements)
    whole = repr((of_data, config_revision, judgement.labelled, measured))
    return (
        hashlib.sha256(of_data.encode()).hexdigest(),
        hashlib.sha256(whole.encode()).hexdigest(),
    )


def _rounded(measurements: Iterable[Measured]) -> list[tuple[object, ...]]:
    # Sums over the same rows in another order differ in their last digits, and say nothing new.
    return [
        tuple(f"{v:.10g}" if isinstance(v, float) else v for v in asdict(measured).values())
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
