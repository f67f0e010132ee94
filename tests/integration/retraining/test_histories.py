"""Alerts that fire, end, are repeated, come late or are forgotten, while people close requests."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select, update

from service.access.audit import audit
from service.access.tables import AuditEntry
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.registry.schemas import ModelDocument, VersionDocument
from service.registry.service import put_model, put_version
from service.registry.tables import Version
from service.registry.values import VersionSpec
from service.retraining import repository
from service.retraining.alertmanager import Alert, Status
from service.retraining.receiving import audit_opened, receive_alerts
from service.retraining.service import handle
from service.retraining.tables import LIVE_STATES, RequestAlert, RequestWindow, RetrainingRequest
from service.runs.tables import Window
from service.webhooks.tables import Outbox
from tests.conftest import sized
from tests.integration.retraining.alertmanager import Sessions, without_cooldown
from tests.integration.seeded import ask
from tests.integration.webhooks.receiver import add_webhook

RUNS = sized(default=15, full=1_000)
DAWN = datetime(2025, 11, 1, tzinfo=UTC)
OPENED = "retraining-request.open"
_numbers = count()

Told = tuple[str, Status, int, bool, bool]
ALERTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["firing", "firing", "firing", "resolved"]),
        st.integers(0, 4),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=3,
)


@dataclass
class Ticket:
    """A request as it must be: its state, and what each of its alerts was last told to be.

    ``lately`` are those that a message was about since Alertmanager forgot all.
    """

    live: bool = True
    alerts: dict[str, tuple[str, int]] = field(default_factory=dict)
    lately: set[str] = field(default_factory=set, compare=False)


class History(RuleBasedStateMachine):
    """Tells of alerts in any order, and keeps in mind which requests there must be."""

    sessions: Sessions

    def __init__(self) -> None:
        super().__init__()
        self.model = f"m{next(_numbers)}"
        self.version = a_version(self.sessions, self.model, "7")
        self.tickets: list[Ticket] = []
        self.windows = self.openings = 0
        self.stage = "live"
        self.sent: list[list[Told]] = []
        self.configure(cooling=False)

    @property
    def live(self) -> Ticket | None:
        return next((ticket for ticket in self.tickets if ticket.live), None)

    @property
    def may_open(self) -> bool:
        closed = any(not ticket.live for ticket in self.tickets)
        return self.live is None and not (self.cooling and closed)

    @rule(told=ALERTS)
    def tell(self, told: list[Told]) -> None:
        self.sent.append(told)
        self.receive(told)
        # Of what is told twice in one message, the last counts.
        self.expect(list({one[0]: one for one in told}.values()), late=True)
        before = self.stored()
        self.receive(told)
        assert self.stored() == before, "a message that comes twice"

    @rule(told=ALERTS)
    def ask(self, told: list[Told]) -> None:
        """Alertmanager says what fires now, so that none of it is late."""
        firing: list[Told] = [
            (name, "firing", start, retrain, muted) for name, _, start, retrain, muted in told
        ]
        self.receive(firing, asked=True)
        self.expect(list({one[0]: one for one in firing}.values()), late=False)

    @rule(which=st.integers(0, 20))
    def tell_of_old(self, which: int) -> None:
        """Alertmanager has lost what it had sent, and sends it again."""
        if which < len(self.sent):
            self.tell(self.sent[which])

    @rule()
    def close(self) -> None:
        if self.live is not None:
            self.live.live = False
        with self.sessions.begin() as session:
            repository.lock_version(session, self.version.version_id)
            live = repository.live_request(session, self.version.version_id)
            if live is not None:
                request = session.get_one(RetrainingRequest, live)
                handle(request, "dismiss", by="ana", note="", at=datetime.now(UTC))

    @rule()
    def a_window_asks(self) -> None:
        start = DAWN + timedelta(days=self.windows)
        self.windows += 1
        if self.may_open and self.stage != "retired":
            self.tickets.append(Ticket())
        with self.sessions.begin() as session:
            ask(session, self.version, a_window(start), self.cooldown)

    @rule()
    def alertmanager_forgets(self) -> None:
        """It is asked, and knows of no alert."""
        with self.sessions.begin() as session:
            session.execute(update(RequestAlert).values(received_at=DAWN))
            repository.end_forgotten_alerts(session, timedelta(minutes=5))
        for ticket in self.tickets:
            ticket.alerts = {
                name: ("resolved", start) for name, (_, start) in ticket.alerts.items()
            }
            ticket.lately.clear()

    @rule(cooling=st.sampled_from([False, False, True]))
    def configure(self, cooling: bool) -> None:
        self.cooling = cooling
        document = {"model": self.model, "retraining": {"cooldown": f"{self.cooldown.days}d"}}
        with self.sessions.begin() as session:
            put_monitor(session, self.model, MonitorDocument.model_validate(document))

    @rule(stage=st.sampled_from(["live", "live", "live", "live", "shadow", "retired"]))
    def promote(self, stage: str) -> None:
        self.stage = stage
        with self.sessions.begin() as session:
            own = Version.id == self.version.version_id
            session.execute(update(Version).where(own).values(stage=stage))

    @property
    def cooldown(self) -> timedelta:
        return timedelta(days=self.cooling)

    def receive(self, told: list[Told], *, asked: bool = False) -> None:
        with self.sessions.begin() as session:
            as_of = repository.read_clock(session) if asked else None
            alerts = [replace(self.alert(*one), as_of=as_of) for one in told]
            received = receive_alerts(session, alerts)
            audit_opened(session, self.model, received)
        assert len(received) == len(told)

    def alert(self, name: str, status: Status, start: int, retrain: bool, muted: bool) -> Alert:
        return an_alert(self.version, name, status, start, retrain=retrain, muted=muted)

    def has_just_ended(self, name: str, start: int) -> bool:
        ended = [one.alerts[name] for one in self.tickets if name in one.lately & one.alerts.keys()]
        return any(state == "resolved" and start <= since for state, since in ended)

    def expect(self, told: list[Told], *, late: bool) -> None:
        live, fresh, ongoing = self.live, [], []
        for name, status, start, retrain, muted in told:
            if late and status == "firing" and self.has_just_ended(name, start):
                continue
            known = {id(one): one.alerts[name] for one in self.tickets if name in one.alerts}
            for ticket in self.tickets:
                state, since = ticket.alerts.get(name, ("", start + 1))
                if name in ticket.alerts and (ticket is live or state == "firing"):
                    ticket.lately.add(name)
                    if start >= since or not late:
                        ticket.alerts[name] = (status, start)
            goes_on = any(state == "firing" or start <= since for state, since in known.values())
            of_the_live = live is not None and name in live.alerts
            if status == "firing" and not of_the_live:
                ongoing.append((name, start))
                if not goes_on:
                    fresh.append(retrain and not muted)
        if live is None and any(fresh) and self.may_open and self.stage == "live":
            live = Ticket()
            self.tickets.append(live)
            self.openings += 1
        if live is not None:
            live.alerts.update({name: ("firing", start) for name, start in ongoing})
            live.lately.update(name for name, _ in ongoing)

    def stored(self) -> list[Ticket]:
        with self.sessions() as session:
            own = RetrainingRequest.version_id == self.version.version_id
            requests = session.scalars(
                select(RetrainingRequest).where(own).order_by(RetrainingRequest.id)
            ).all()
            alerts = repository.alerts_of(session, [request.id for request in requests])
        return [
            Ticket(
                request.state in LIVE_STATES,
                {
                    row.fingerprint: (row.state, (row.starts_at - DAWN) // timedelta(hours=1))
                    for row in alerts[request.id]
                },
            )
            for request in requests
        ]

    @invariant()
    def what_is_stored_is_what_follows(self) -> None:
        assert self.stored() == self.tickets
        assert sum(ticket.live for ticket in self.tickets) <= 1
        with self.sessions() as session:
            events = session.scalars(select(Outbox.event)).all()
            opened = select(func.count()).where(
                AuditEntry.action == OPENED, AuditEntry.actor == self.model
            )
            assert session.scalar(opened) == self.openings
        told = [event for event in events if event["data"]["model"] == self.model]
        assert len(told) == len(self.tickets)


def a_version(sessions: Sessions, model: str, name: str) -> VersionSpec:
    with sessions.begin() as session:
        put_model(session, model, ModelDocument(owner="risk"))
        put_version(session, model, name, VersionDocument(features=[], stage="live"))
        (version,) = repository.versions_named(session, [(model, name)])
    return version


def an_alert(
    version: VersionSpec,
    name: str,
    status: Status,
    start: int,
    *,
    retrain: bool = True,
    muted: bool = False,
) -> Alert:
    labels = {"alertname": name, "action": "retrain" if retrain else "watch"}
    return Alert(
        fingerprint=name,
        status=status,
        name=name,
        model=version.model,
        version=version.version,
        retrain=retrain,
        summary="",
        labels=labels,
        annotations={},
        starts_at=DAWN + timedelta(hours=start),
        ends_at=None,
        muted=muted,
    )


def a_window(start: datetime) -> Window:
    return Window(start=start, end=start + timedelta(days=1), reason="it got worse")


def test_however_alerts_are_told_the_requests_are_those_that_follow(sessions: Sessions) -> None:
    add_webhook(sessions, "ci")
    run_state_machine_as_test(
        type("Here", (History,), {"sessions": sessions}),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=20,
            deadline=None,
            database=None,
            # Each step commits: to shrink a failure takes minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_receivers_workers_and_people_at_once_wait_for_each_other_and_never_for_ever(
    sessions: Sessions,
) -> None:
    add_webhook(sessions, "ci")
    versions = [a_version(sessions, "loans", name) for name in ("7", "8")]
    without_cooldown(sessions)

    def tell(step: int, versions: list[VersionSpec]) -> None:
        with sessions.begin() as session:
            status: Status = "resolved" if step % 3 == 2 else "firing"
            alerts = [an_alert(version, "a", status, step) for version in versions]
            audit_opened(session, "ana", receive_alerts(session, alerts))

    def close(_: int) -> None:
        for version in versions:
            with sessions.begin() as session:
                repository.lock_version(session, version.version_id)
                live = repository.live_request(session, version.version_id)
                if live is not None:
                    request = session.get_one(RetrainingRequest, live)
                    handle(request, "dismiss", by="ana", note="", at=datetime.now(UTC))
                    audit(session, "ana", "retraining-request.dismiss", f"request:{live}")

    def judge(step: int) -> None:
        for version in reversed(versions):
            with sessions.begin() as session:
                ask(session, version, a_window(DAWN + timedelta(days=step)))
                audit(session, "worker", "tried", "")

    deeds: list[Callable[[int], None]] = [
        lambda step: tell(step, versions),
        lambda step: tell(step, versions[::-1]),
        close,
        judge,
    ]

    def again_and_again(deed: Callable[[int], None]) -> None:
        for step in range(15):
            deed(step)

    with ThreadPoolExecutor(len(deeds)) as pool:
        for ended in [pool.submit(again_and_again, deed) for deed in deeds]:
            ended.result()
    with sessions() as session:
        requests = session.scalars(select(RetrainingRequest)).all()
        events = session.scalars(select(func.count()).select_from(Outbox)).one()
        windows = session.scalars(select(func.count()).select_from(RequestWindow)).one()
    live = [request.version_id for request in requests if request.state in LIVE_STATES]
    assert len(live) == len(set(live))
    assert events == len(requests) >= 2
    assert windows == 2 * 15
