"""Workers that are killed or frozen anywhere leave no window half done, and alert nobody twice."""

import random
import signal
import time
from pathlib import Path

import psycopg

from tests.conftest import sized
from tests.system.faults import audit
from tests.system.faults.rig import Rig, rigged

KILLS = sized(default=20, full=1_000)
JUDGE_SECONDS = sized(default=120, full=900)
FREEZE_EVERY = 15
FROZEN_SECONDS = 1.5
"""Longer than the lease."""
WINDOW_ROWS = 240


def claimants(rig: Rig) -> set[int]:
    """Return the ids of the processes that hold work."""
    with psycopg.connect(rig.database.url) as connection:
        query = "SELECT DISTINCT claimed_by FROM due_work WHERE lease_until > now()"
        return {int(row[0].split("/")[0].rsplit("-", 1)[1]) for row in connection.execute(query)}


def freeze_at_work(rig: Rig) -> bool:
    """Freeze a worker that holds a claim for longer than its lease, if one is caught at it."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        at_work = claimants(rig)
        for worker in rig.workers:
            if worker.exit_code is None and worker.pid in at_work:
                worker.send(signal.SIGSTOP)
                time.sleep(FROZEN_SECONDS)
                worker.send(signal.SIGCONT)
                return True
        time.sleep(0.002)
    return False


def test_workers_die_and_freeze_anywhere_while_a_webhook_hangs(tmp_path: Path) -> None:
    choice = random.Random()
    began, frozen = time.monotonic(), 0
    with rigged(tmp_path, apis=1, workers=2) as rig:
        rig.hook.answers.clear()
        for kill in range(KILLS):
            rig.post(range(kill * WINDOW_ROWS, (kill + 1) * WINDOW_ROWS))
            if kill % FREEZE_EVERY == 0:
                frozen += freeze_at_work(rig)
            rig.supervise_for(choice.uniform(0, 0.3), choice)
            choice.choice(rig.workers).send(signal.SIGKILL)
        rig.judge(JUDGE_SECONDS)
        # All is judged though nobody has answered for as long.
        waiting = audit.look(rig.database.url)
        rig.hook.answers.set()
        rig.deliver(60)
        found = audit.look(rig.database.url)
    print(f"{KILLS} kills, {frozen} freezes in {time.monotonic() - began:.0f} s: {found}")
    assert waiting["events_undelivered"] > 0
    assert audit.contradictions({**found, "predictions_lost": 0, "labels_lost": 0}) == {}
    assert found["windows"] == KILLS
    assert found["requests"] == 1
    assert len(set(rig.hook.ids)) == found["events"]
