"""What a due window is judged by: read, or waited for."""

from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.reader import RowReader
from service.buckets.repository import load_profiles, load_slices
from service.buckets.slicing import UNSLICED, Slicing, slicing_of
from service.ledger.marks import Item
from service.ledger.repository import Claim, finish, release
from service.registry.repository import (
    find_monitor,
    find_reference,
    find_version_by_id,
    latest_reference,
)
from service.registry.values import MonitorSpec, ReferenceSpec, VersionSpec
from service.runs.binnings import binning_id_of
from service.runs.comparing import (
    WAITS,
    Compared,
    Edges,
    find_compared,
    is_unsettled,
    load_baseline,
)
from service.runs.delays import measure_label_delays
from service.runs.findings import load_findings
from service.runs.incidents import calendar_of
from service.runs.judging import Inputs
from service.runs.knowledge import Knowledge
from service.runs.lacking import are_gone, mark_lacking
from service.runs.recording import record_outcome
from service.runs.tables import Window
from service.runs.traffic import load_traffic


@dataclass(frozen=True, slots=True)
class _Due:
    """A claimed window, what it is compared with, and under which edges."""

    claim: Claim
    version: VersionSpec
    monitor: MonitorSpec
    reference: ReferenceSpec | None
    compared: Compared | None
    binning_id: int
    slicing: Slicing


class Loader:
    """Reads what windows are judged by."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        reader: RowReader,
        knowledge: Knowledge,
        quiet: timedelta,
    ) -> None:
        self._sessions = sessions
        self._reader = reader
        self._knowledge = knowledge
        self._quiet = quiet

    def load(self, claim: Claim) -> Inputs | None:
        """Read what the window needs; of one that cannot be judged now, let go of the claim."""
        due = self._due(claim)
        with self._sessions.begin() as session:
            if not self._is_ready(session, due):
                return None
            inputs = self._inputs(session, due)
        if due.compared is None:
            return inputs
        edges = Edges(due.binning_id, inputs.binning, due.slicing)
        before = load_baseline(self._sessions, due.compared, edges, due.monitor)
        return replace(inputs, compared=before)

    def _due(self, claim: Claim) -> _Due:
        item = claim.item
        with self._sessions() as session:
            self._knowledge.refresh(session)
            version = find_version_by_id(session, item.version_id)
            monitor = find_monitor(session, version.model_id)
            reference = _reference(session, claim)
            compared = find_compared(session, version, monitor, item)
        binning_id = (
            reference.binning_id
            if reference
            else binning_id_of(self._sessions, self._reader, version)
        )
        slicing = slicing_of(monitor.document)
        return _Due(claim, version, monitor, reference, compared, binning_id, slicing)

    def _is_ready(self, session: Session, due: _Due) -> bool:
        """Say whether it can be judged; where its buckets lack the edges, mark them."""
        claim = due.claim
        lacking = mark_lacking(session, claim.item, due.binning_id, due.slicing)
        if lacking:
            release(session, [claim], retry_in=timedelta(0))
            return False
        if lacking is None:
            # What was said of it stands: nobody can read its rows again.
            finish(session, [claim])
            record_outcome(session, claim.item, "evaluated", insufficient=True)
            return False
        # What is still to come marks the window again: waiting for ever gains nothing.
        awaited = due.compared if claim.attempts <= WAITS else None
        if awaited and is_unsettled(session, awaited, due.binning_id, due.slicing):
            release(session, [claim], retry_in=self._quiet)
            return False
        return True

    def _inputs(self, session: Session, due: _Due) -> Inputs:
        item, binning_id = due.claim.item, due.binning_id
        span = (item.start, item.end)
        found = load_profiles(session, item.version_id, binning_id, *span)
        slices: list[bytes] = []
        if not due.slicing.is_empty:
            slices = load_slices(session, item.version_id, binning_id, due.slicing.family, *span)
        reference = None
        if due.reference:
            own = UNSLICED if due.compared else due.slicing
            reference = self._knowledge.reference(session, due.reference.id, binning_id, own)
        return Inputs(
            item,
            due.version,
            due.monitor,
            due.reference.revision if due.reference else None,
            reference,
            self._knowledge.binning(session, binning_id),
            found["features"],
            found["performance"],
            slices,
            load_traffic(session, item, calendar_of(due.monitor.document)),
            load_findings(session, item),
            _horizon_passed(session, item, due.monitor),
            rows_gone=are_gone(session, item.model_id, [item.start]),
            delays=measure_label_delays(session, item) if found["performance"] else (),
        )


def _reference(session: Session, claim: Claim) -> ReferenceSpec | None:
    # A window keeps the reference that it was first judged with, unless an evaluation asks for
    # the current one.
    item = claim.item
    if not claim.details.get("current_reference"):
        revision = session.scalar(
            select(Window.reference_revision).where(
                Window.version_id == item.version_id,
                Window.start == item.start,
                Window.end == item.end,
                Window.latest,
            )
        )
        if revision is not None:
            return find_reference(session, item.version_id, revision)
    return latest_reference(session, item.version_id)


def _horizon_passed(session: Session, item: Item, monitor: MonitorSpec) -> bool | None:
    horizon = monitor.document.performance.label_horizon
    if horizon is None:
        return None
    return session.scalar(select(func.clock_timestamp() >= literal(item.end + horizon)))
