"""The steps of the worker: arrivals, buckets, windows.  Each claims, works and records."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from time import monotonic

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.arrivals import collect_arrivals
from service.buckets.faults import fold_faults
from service.buckets.reader import RowReader
from service.buckets.repository import (
    Family,
    binnings_in_use,
    count_labelled,
    load_profiles,
    load_slices,
    store_profiles,
    store_slices,
)
from service.buckets.service import Contents, profile_buckets, profile_slices
from service.buckets.slicing import UNSLICED, slicing_of
from service.db.trouble import is_passing
from service.evaluation.judgement import require_labels
from service.evaluation.policy import Action
from service.ledger.repository import (
    BUCKET_KINDS,
    Claim,
    ClaimLostError,
    Item,
    claim_one,
    claim_run,
    finish,
    mark,
    release,
)
from service.registry.repository import (
    find_monitor,
    find_reference,
    find_version_by_id,
    latest_reference,
)
from service.registry.values import MonitorSpec, ReferenceSpec
from service.runs.binnings import binning_id_of
from service.runs.comparing import (
    WAITS,
    Edges,
    find_compared,
    is_unsettled,
    load_baseline,
)
from service.runs.delays import measure_label_delays
from service.runs.findings import ask_for_findings, load_findings
from service.runs.incidents import calendar_of
from service.runs.judging import Inputs, Outcome, judge_inputs
from service.runs.knowledge import Knowledge
from service.runs.lacking import are_gone, mark_lacking, rows_since
from service.runs.leases import LeaseKeeper
from service.runs.planning import mark_windows, plan_evaluation
from service.runs.recording import record, record_failure, record_outcome
from service.runs.silence import mark_silence
from service.runs.tables import Window
from service.runs.traffic import load_traffic

log = logging.getLogger(__name__)

FAMILIES: dict[str, Family] = {"bucket_rows": "features", "bucket_labels": "performance"}

# Neighbouring dirty buckets are read in one query of at most this span.
SPAN = timedelta(days=7)
RETRY = timedelta(seconds=1)
# The row stage makes a window due that waits for it; this is for marks that cross.
ROW_STAGE_RETRY = timedelta(seconds=30)
LONGEST_RETRY = timedelta(minutes=10)
# An evaluation that waits for a window stops waiting after this many failures of it.
PATIENCE = 3
# Silence lasts; nobody needs to know of it within seconds.
LISTEN_SECONDS = 30.0


class Pipeline:
    """Takes one piece of work after the other; holds nothing that another worker needs."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        reader: RowReader,
        leases: LeaseKeeper,
        *,
        worker: str,
        lease: timedelta,
        quiet: timedelta,
        row_stage: bool,
    ) -> None:
        self._sessions = sessions
        self._reader = reader
        self._leases = leases
        self._worker = worker
        self._lease = lease
        self._quiet = quiet
        self._row_stage = row_stage
        self._knowledge = Knowledge()
        self._listen_at = 0.0

    def collect(self) -> bool:
        """Collect arrivals; return whether there were any."""
        with self._sessions.begin() as session:
            return collect_arrivals(session) > 0

    def plan(self) -> bool:
        """Plan one requested evaluation; return whether there was one."""
        with self._sessions.begin() as session:
            return plan_evaluation(session)

    def profile(self) -> bool:
        """Profile a run of dirty buckets; return whether there were any."""
        for kind in BUCKET_KINDS:
            with self._sessions.begin() as session:
                claims = claim_run(session, kind, worker=self._worker, lease=self._lease, span=SPAN)
            if claims:
                with self._held(claims):
                    self._profile(claims, FAMILIES[kind])
                return True
        return False

    def ripen(self) -> bool:
        """Make one window due whose label horizon has passed; return whether there was one."""
        with self._sessions.begin() as session:
            claim = claim_one(session, "maturity", worker=self._worker, lease=self._lease)
            if claim is None:
                return False
            mark(session, "window", [claim.item])
            finish(session, [claim])
        return True

    def listen(self) -> bool:
        """Make windows without rows due, now and then; return whether there were any."""
        if monotonic() < self._listen_at:
            return False
        self._listen_at = monotonic() + LISTEN_SECONDS
        with self._sessions.begin() as session:
            return mark_silence(session, self._quiet) > 0

    def judge(self) -> bool:
        """Judge one due window; return whether there was one."""
        with self._sessions.begin() as session:
            claim = claim_one(session, "window", worker=self._worker, lease=self._lease)
        if claim is None:
            return False
        with self._held([claim]):
            inputs = self._load(claim)
            if inputs is not None:
                outcome = self._judge(inputs)
                if outcome.waits and self._row_stage:
                    self._wait(claim, outcome)
                else:
                    self._record(claim, inputs, outcome)
        return True

    @contextmanager
    def _held(self, claims: list[Claim]) -> Iterator[None]:
        # The job's boundary: whatever fails is put off, says why, and holds nothing else up.
        try:
            with self._leases.hold(claims):
                yield
        except ClaimLostError:
            log.warning("lost the claim on %s %s", claims[0].kind, claims[0].item)
        except Exception as error:
            what = (claims[0].kind, claims[0].item.version_id)
            if is_passing(error):
                # Nothing is wrong with the work: after an outage nobody waits for minutes.
                log.warning("%s of version %s: the database fails (%s)", *what, _named(error))
                self._put_off(claims, error, RETRY, counts=False)
            else:
                log.exception("%s of version %s failed", *what)
                delay = min(RETRY * 2 ** min(claims[0].attempts, 12), LONGEST_RETRY)
                self._put_off(claims, error, delay, counts=True)

    def _put_off(
        self, claims: list[Claim], error: Exception, delay: timedelta, *, counts: bool
    ) -> None:
        with self._sessions.begin() as session:
            release(session, claims, retry_in=delay, error=_named(error))
            if counts and claims[0].attempts >= PATIENCE:
                for claim in claims:
                    record_failure(session, claim.item)

    def _profile(self, claims: list[Claim], family: Family) -> None:
        items = [claim.item for claim in claims]
        version_id = items[0].version_id
        with self._sessions() as session:
            version = find_version_by_id(session, version_id)
            monitor = find_monitor(session, version.model_id)
            start, end = items[0].start, max(item.end for item in items)
            # A bucket without labels has no performance yet, but its rows have slices.
            ids = binnings_in_use(session, version_id, start, end)
            slicing = slicing_of(monitor.document)
            sliced = family == "performance" and not slicing.is_empty
        # What a window lacks is named by its mark.
        ids.update(c.details["binning"] for c in claims if "binning" in c.details)
        ids.add(binning_id_of(self._sessions, self._reader, version))
        with self._sessions() as session:
            self._knowledge.refresh(session)
            binnings = {known: self._knowledge.binning(session, known) for known in sorted(ids)}
        slices: Contents | None = None
        if sliced:
            contents, slices = profile_slices(self._reader, version, items, binnings, slicing)
        else:
            contents = profile_buckets(self._reader, version, family, items, binnings)
        with self._sessions.begin() as session:
            finish(session, claims)
            # Profiles outlive their rows; asked after reading, for they may have gone meanwhile.
            since = rows_since(session, version.model_id)
            items = [item for item in items if since is None or item.start >= since]
            if not items:
                return
            store_profiles(session, family, items, _of_items(contents, items))
            if slices is not None:
                store_slices(session, slicing.family, items, _of_items(slices, items))
            fold_faults(session, items)
            starts = [item.start for item in items]
            mark_windows(session, monitor, version.model_id, version_id, starts, self._quiet)

    def _load(self, claim: Claim) -> Inputs | None:
        """Read what the window needs; where buckets lack its binning, mark them and wait."""
        item = claim.item
        with self._sessions() as session:
            self._knowledge.refresh(session)
            version = find_version_by_id(session, item.version_id)
            monitor = find_monitor(session, version.model_id)
            reference = self._reference(session, claim)
            compared = find_compared(session, version, monitor, item)
        slicing = slicing_of(monitor.document)
        binning_id = (
            reference.binning_id
            if reference
            else binning_id_of(self._sessions, self._reader, version)
        )
        with self._sessions.begin() as session:
            lacking = mark_lacking(session, item, binning_id, slicing)
            if lacking:
                release(session, [claim], retry_in=timedelta(0))
                return None
            if lacking is None:
                # What was said of it stands: nobody can read its rows again.
                finish(session, [claim])
                record_outcome(session, item, "evaluated", insufficient=True)
                return None
            # What is still to come marks the window again: waiting for ever gains nothing.
            awaited = compared if claim.attempts <= WAITS else None
            if awaited and is_unsettled(session, awaited, binning_id, slicing):
                release(session, [claim], retry_in=self._quiet)
                return None
            span = (item.start, item.end)
            found = load_profiles(session, item.version_id, binning_id, *span)
            slices = (
                []
                if slicing.is_empty
                else load_slices(session, item.version_id, binning_id, slicing.family, *span)
            )
            own = UNSLICED if compared else slicing
            inputs = Inputs(
                item,
                version,
                monitor,
                reference.revision if reference else None,
                self._knowledge.reference(session, reference.id, binning_id, own)
                if reference
                else None,
                self._knowledge.binning(session, binning_id),
                found["features"],
                found["performance"],
                slices,
                load_traffic(session, item, calendar_of(monitor.document)),
                load_findings(session, item),
                _horizon_passed(session, item, monitor),
                rows_gone=are_gone(session, item.model_id, [item.start]),
                delays=measure_label_delays(session, item) if found["performance"] else (),
            )
        if compared is None:
            return inputs
        edges = Edges(binning_id, inputs.binning, slicing)
        before = load_baseline(self._sessions, compared, edges, monitor)
        return replace(inputs, compared=before)

    def _reference(self, session: Session, claim: Claim) -> ReferenceSpec | None:
        # A window keeps the reference that it was first judged with, unless an evaluation asks
        # for the current one.
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

    def _judge(self, inputs: Inputs) -> Outcome:
        return judge_inputs(self._knowledge, inputs)

    def _wait(self, claim: Claim, outcome: Outcome) -> None:
        """Put a window off until the row stage has scores for it, or gives up."""
        with self._sessions.begin() as session:
            release(session, [claim], retry_in=ROW_STAGE_RETRY)
            ask_for_findings(session, claim.item, outcome.basis, outcome.missing, at_once=True)

    def _record(self, claim: Claim, inputs: Inputs, outcome: Outcome) -> None:
        judgement, wanted = outcome.judgement, inputs.monitor.document.retraining.min_labelled_rows
        with self._sessions.begin() as session:
            if judgement.action is Action.RETRAIN:
                known = count_labelled(session, inputs.version.version_id)
                judgement = require_labels(judgement, known, wanted)
            record(
                session,
                claim,
                inputs.version,
                judgement,
                basis=outcome.basis,
                document=inputs.monitor.document,
                missing=outcome.missing if self._row_stage else (),
            )


def _of_items(contents: Contents, items: Iterable[Item]) -> Contents:
    starts = {item.start for item in items}
    return {key: content for key, content in contents.items() if key[1] in starts}


def _named(error: Exception) -> str:
    return type(error).__name__


def _horizon_passed(session: Session, item: Item, monitor: MonitorSpec) -> bool | None:
    horizon = monitor.document.performance.label_horizon
    if horizon is None:
        return None
    return session.scalar(select(func.clock_timestamp() >= literal(item.end + horizon)))
