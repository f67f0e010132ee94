"""Incidents open at k of n, close with hysteresis, and come out the same in any order."""

import random
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from service.alerts.tables import Incident
from service.db.engine import make_engine, make_sessions
from service.evaluation.causes import Cause, Severity, Signal
from service.evaluation.hysteresis import Rule, State, fold
from service.evaluation.policy import Action
from service.ledger.marks import Item
from service.registry.monitor import MonitorDocument
from service.registry.values import VersionSpec
from service.retraining.repository import lock_version
from service.runs.incidents import follow_incidents
from service.runs.tables import Window
from service.webhooks.tables import Outbox
from tests.integration.seeded import DAY, START, add_window, register
from tests.integration.webhooks.receiver import add_webhook

A, R, C, U = State.ALERT, State.RAISED, State.CALM, State.UNKNOWN
INCOME = Cause("drift", subject="income")
LOSS = Cause("performance")
NORTH = Cause("slice", slice="region=north")

Sessions = sessionmaker[Session]


def document(**alert: Any) -> MonitorDocument:
    return MonitorDocument.model_validate({"model": "loans", "alert": alert})


def says(day: int, state: State, cause: Cause = INCOME) -> Signal:
    return Signal(cause, state, Severity.WARNING, Action.WATCH, f"day {day}")


def judge(
    sessions: Sessions,
    version: VersionSpec,
    day: int,
    *states: State,
    monitor: MonitorDocument | None = None,
    causes: Sequence[Cause] = (INCOME,),
    pending: bool = False,
) -> None:
    """Record what one day says about each cause, as a worker would."""
    with sessions.begin() as session:
        start, end = START + day * DAY, START + (day + 1) * DAY
        known = session.scalar(
            select(Window.id).where(Window.start == start, Window.version_id == version.version_id)
        )
        if known is None:
            add_window(session, version, day)
        lock_version(session, version.version_id)
        item = Item(version.model_id, version.version_id, start, end)
        signals = [says(day, state, cause) for state, cause in zip(states, causes, strict=False)]
        rules = monitor or document(cooldown="0s")
        follow_incidents(session, item, rules, signals, pending=pending)


def days(sessions: Sessions) -> list[tuple[int, int, int | None, str]]:
    """Return the incidents that stand, in days, with their state."""

    def day(at: Any) -> Any:
        return None if at is None else (at - START) // DAY

    with sessions() as session:
        rows = session.scalars(
            select(Incident)
            .where(Incident.outcome.is_distinct_from("withdrawn"))
            .order_by(Incident.opened_start, Incident.cause)
        )
        return [(day(r.since), day(r.opened_start), day(r.closed_start), r.state) for r in rows]


def test_it_opens_at_two_of_three_and_closes_after_two_calm_windows(sessions: Sessions) -> None:
    version = register(sessions, "7")
    seen = []
    for day, state in enumerate([C, A, C, A, R, C, U, R, C, U, C, C]):
        judge(sessions, version, day, state)
        seen.append([row[1:] for row in days(sessions)])
    assert seen[:3] == [[], [], []]
    assert seen[3:10] == [[(3, None, "open")]] * 7
    assert seen[10:] == [[(3, 10, "closed")]] * 2
    with sessions() as session:
        incident = session.scalars(select(Incident)).one()
        assert (incident.outcome, incident.reason) == ("recovered", "day 3")
        assert (incident.kind, incident.subject) == ("drift", "income")
        assert incident.opened_end == START + 4 * DAY


@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), [1, 4, 0, 5, 3, 2]])
def test_every_order_of_judging_gives_the_same_incidents(
    sessions: Sessions, order: Iterable[int]
) -> None:
    states = [A, A, C, C, A, A]
    version = register(sessions, "7")
    for day in order:
        judge(sessions, version, day, states[day])
    assert days(sessions) == [(0, 1, 3, "closed"), (4, 5, None, "open")]


@pytest.mark.parametrize("seed", range(12))
def test_histories_that_are_judged_and_revised_in_any_order_come_out_as_their_fold(
    sessions: Sessions, seed: int
) -> None:
    draw = random.Random(seed)
    version = register(sessions, "7")
    monitor = document(open="2 of 4", close_after=2, cooldown="3d")
    last = [draw.choice([A, A, R, C, C, C, U]) for _ in range(24)]
    first = [draw.choice([A, R, C, U]) for _ in range(24)]
    steps = [(day, first[day]) for day in range(24) if draw.random() < 0.4]
    draw.shuffle(steps)
    final = list(enumerate(last))
    draw.shuffle(final)
    for day, state in [*steps, *final]:
        judge(sessions, version, day, state, monitor=monitor)
    spans = fold(dict(enumerate(last)), Rule(2, 4, 2, cooldown=3))
    assert [row[:3] for row in days(sessions)] == [(s.since, s.opened, s.closed) for s in spans]


def test_a_late_window_joins_two_incidents_and_a_revised_one_withdraws_them(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    for day, state in enumerate([A, A, C, C, A, A]):
        judge(sessions, version, day, state)
    judge(sessions, version, 3, A)
    assert days(sessions) == [(0, 1, None, "open")]
    judge(sessions, version, 0, C)
    judge(sessions, version, 1, C)
    # Of the first nothing is left, but it is one trouble with what follows: its row goes on.
    assert days(sessions) == [(3, 4, None, "open")]
    for day in (3, 4, 5):
        judge(sessions, version, day, C)
    assert days(sessions) == []
    with sessions() as session:
        assert {row.state for row in session.scalars(select(Incident))} == {"closed"}


def test_an_incident_says_what_its_newest_alert_says(sessions: Sessions) -> None:
    version = register(sessions, "7")

    def reasons() -> list[str]:
        with sessions() as session:
            found = session.scalars(select(Incident).order_by(Incident.opened_start))
            return [row.reason for row in found]

    for day, state in enumerate([A, A, A, A]):
        judge(sessions, version, day, state)
    assert reasons() == ["day 3"]
    judge(sessions, version, 3, R)
    assert reasons() == ["day 2"]
    judge(sessions, version, 1, A)
    assert reasons() == ["day 2"]
    for day, state in enumerate([C, C, A, A], 4):
        judge(sessions, version, day, state)
    assert reasons() == ["day 2", "day 7"]
    judge(sessions, version, 2, R)
    assert reasons() == ["day 1", "day 7"]


def test_within_the_cooldown_it_does_not_open_again(sessions: Sessions) -> None:
    version = register(sessions, "7")
    monitor = document(open="1 of 1", close_after=1, cooldown="3d")
    for day, state in enumerate([A, C, A, A, A, A]):
        judge(sessions, version, day, state, monitor=monitor)
    assert days(sessions) == [(0, 0, 1, "closed"), (4, 4, None, "open")]


def test_each_cause_has_an_incident_of_its_own(sessions: Sessions) -> None:
    version = register(sessions, "7")
    both = (INCOME, LOSS)
    # Drift today and a loss tomorrow are not the same trouble twice.
    judge(sessions, version, 0, A, C, causes=both)
    judge(sessions, version, 1, C, A, causes=both)
    assert days(sessions) == []
    judge(sessions, version, 2, A, A, causes=both)
    assert sorted(days(sessions)) == [(0, 2, None, "open"), (1, 2, None, "open")]


def test_what_nobody_watches_any_more_closes_but_not_while_findings_are_awaited(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    for day in range(2):
        judge(sessions, version, day, A)
    for day in (2, 3, 4):
        judge(sessions, version, day, pending=True)
    assert days(sessions) == [(0, 1, None, "open")]
    judge(sessions, version, 2)
    judge(sessions, version, 4)
    assert days(sessions) == [(0, 1, 4, "closed")]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("cause", "verdicts", "closed"),
    [
        (LOSS, {"performance": "insufficient_data"}, None),
        (LOSS, {"performance": "ok"}, 3),
        (NORTH, {"performance": "ok"}, None),
        (NORTH, {"slices": "insufficient_data"}, None),
        # Of the slices others were judged: this one was neither, nor searched for.
        (NORTH, {"slices": "ok"}, None),
        (Cause("multivariate_drift"), {"drift": "ok"}, None),
        (Cause("multivariate_drift"), {"multivariate": "ok"}, 3),
        # Nobody asks for a protected column of that name any more.
        (Cause("fairness", subject="sex"), {}, 3),
    ],
)
def test_silence_is_calm_only_where_the_window_could_have_spoken(
    sessions: Sessions, cause: Cause, verdicts: dict[str, str], closed: int | None, *, late: bool
) -> None:
    version = register(sessions, "7")
    with sessions.begin() as session:
        for day in (2, 3):
            add_window(session, version, day, verdicts=verdicts)
    # Windows that were judged before there was a cause say the same as those judged since.
    for day in (2, 3, 0, 1) if late else range(4):
        judge(sessions, version, day, *([A] if day < 2 else []), causes=[cause])
    state = "open" if closed is None else "closed"
    assert days(sessions) == [(0, 1, closed, state)]


def test_a_check_of_quality_that_found_nothing_closes_while_findings_are_awaited(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    unit = Cause("quality", metric="unit_change", subject="height")
    for day in range(2):
        judge(sessions, version, day, A, causes=[unit])
    for day in (2, 3):
        judge(sessions, version, day, pending=True)
    assert days(sessions) == [(0, 1, 3, "closed")]


def test_a_silent_window_neither_opens_nor_closes(sessions: Sessions) -> None:
    version = register(sessions, "7")
    for day in range(2):
        judge(sessions, version, day, A)
    with sessions.begin() as session:
        for day in (2, 3):
            add_window(session, version, day, silent=True)
    judge(sessions, version, 4, C)
    assert days(sessions) == [(0, 1, None, "open")]
    judge(sessions, version, 5, C)
    assert days(sessions) == [(0, 1, 5, "closed")]


def test_windows_of_another_length_do_not_count(sessions: Sessions) -> None:
    version = register(sessions, "7")
    judge(sessions, version, 0, A)
    judge(sessions, version, 1, A)
    with sessions.begin() as session:
        for day in (2, 3):
            hour = timedelta(hours=1)
            add_window(session, version, day, end=START + day * DAY + hour)
    judge(sessions, version, 4, C)
    assert days(sessions) == [(0, 1, None, "open")]


def test_what_somebody_acknowledged_stays_so_until_it_closes_and_if_late_data_reopens_it(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    for day in range(2):
        judge(sessions, version, day, A)
    with sessions.begin() as session:
        incident = session.scalars(select(Incident)).one()
        incident.state, incident.acknowledged_by = "acknowledged", "ana"
        incident.acknowledged_at = START
    judge(sessions, version, 2, A)
    assert days(sessions) == [(0, 1, None, "acknowledged")]
    for day in (3, 4):
        judge(sessions, version, day, C)
    assert days(sessions) == [(0, 1, 4, "closed")]
    judge(sessions, version, 4, A)
    assert days(sessions) == [(0, 1, None, "acknowledged")]


def test_two_workers_that_judge_neighbours_open_one_incident(database_url: str) -> None:
    engine = make_engine(database_url, pool=8)
    sessions = make_sessions(engine)
    version = register(sessions, "7")
    barrier = threading.Barrier(8)

    def work(day: int) -> None:
        barrier.wait(timeout=60)
        judge(sessions, version, day, A)

    with ThreadPoolExecutor(8) as pool:
        _finished(pool.map(work, range(8)))
    assert days(sessions) == [(0, 1, None, "open")]

    def calm(day: int) -> None:
        barrier.wait(timeout=60)
        judge(sessions, version, day, C)

    with ThreadPoolExecutor(8) as pool:
        _finished(pool.map(calm, range(8, 16)))
    assert days(sessions) == [(0, 1, 9, "closed")]
    engine.dispose()


def _finished(calls: Iterable[None]) -> None:
    assert list(calls) == [None] * 8


def test_who_listens_is_told_in_the_transaction_that_judges(sessions: Sessions) -> None:
    add_webhook(sessions, "pager", events=["incident.opened", "incident.closed"])
    version = register(sessions, "7")
    told = []
    for day, state in enumerate([A, A, A, C, C, C]):
        judge(sessions, version, day, state)
        with sessions() as session:
            told.append(session.scalars(select(Outbox.dedupe_key).order_by(Outbox.id)).all())
    opened, closed = "incident-1-1", "incident-1-2"
    assert told == [[], [opened], [opened], [opened], [opened, closed], [opened, closed]]
