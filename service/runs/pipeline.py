"""The steps of the worker: arrivals, buckets, windows.  Each claims, works and records."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from sqlalchemy.orm import Session, sessionmaker

from service.buckets.arrivals import collect_arrivals
from service.buckets.faults import fold_faults
from service.buckets.reader import RowReader
from service.buckets.repository import (
    Family,
    binnings_in_use,
    count_labelled,
    store_profiles,
    store_slices,
)
from service.buckets.service import Contents, profile_buckets, profile_slices
from service.buckets.slicing import slicing_of
from service.db.outage import DATABASE
from service.db.trouble import is_passing
from service.evaluation.judgement import require_labels
from service.evaluation.policy import Action
from service.ledger.marks import BUCKET_KINDS, Item, mark
from service.ledger.repository import Claim, ClaimLostError, claim_one, claim_run, finish, release
from service.registry.repository import (
    find_monitor,
    find_version_by_id,
)
from service.runs.binnings import binning_id_of
from service.runs.findings import ask_for_findings
from service.runs.judging import Inputs, Outcome, judge_inputs
from service.runs.knowledge import Knowledge
from service.runs.lacking import rows_since
from service.runs.leases import LeaseKeeper
from service.runs.loading import Loader
from service.runs.planning import mark_windows, plan_evaluation
from service.runs.recording import record, record_failure
from service.runs.silence import mark_silence

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
        self._loader = Loader(sessions, reader, self._knowledge, quiet)
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
                with self._held(claims, "profile"):
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
        with self._held([claim], "judge"):
            inputs = self._loader.load(claim)
            if inputs is not None:
                outcome = self._judge(inputs)
                if outcome.waits and self._row_stage:
                    self._wait(claim, outcome)
                else:
                    self._record(claim, inputs, outcome)
        return True

    @contextmanager
    def _held(self, claims: list[Claim], job: str) -> Iterator[None]:
        # The job's boundary: whatever fails is put off, says why, and holds nothing else up.
        try:
            with self._leases.hold(claims):
                yield
        except ClaimLostError:
            log.warning("lost the claim on %s %s", claims[0].kind, claims[0].item)
        except Exception as error:
            if is_passing(error):
                # Nothing is wrong with the work: after an outage nobody waits for minutes.
                DATABASE.fails(job, error)
                self._put_off(claims, error, RETRY, counts=False)
            else:
                log.exception("%s of version %s failed", claims[0].kind, claims[0].item.version_id)
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
            fold_faults(session, version.model_id, version_id, [item.start for item in items])
            starts = [item.start for item in items]
            mark_windows(session, monitor, version.model_id, version_id, starts, self._quiet)

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
