"""A database that hangs or is stopped under load: 503 at once, flat memory, and nothing is lost."""

import statistics
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from tests.conftest import sized
from tests.system.faults import audit
from tests.system.faults.database import thaw
from tests.system.faults.rig import Rig, rigged

AWAY_SECONDS = sized(default=3, full=300)
"""Frozen for so long, and stopped for as long again."""
MEMORY = 50 << 20
GRACE_SECONDS = 6.0
"""The promise is five; then everybody has heard of it."""


class Watch:
    """What the API does while its database is away."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._process = psutil.Process(rig.apis[0].pid)
        self.before = self.most = self._process.memory_info().rss
        self.health: Counter[int] = Counter()

    def look_on(self, seconds: float) -> list[tuple[int, float]]:
        """Ask for its health for a while; return the answers to the load after a grace."""
        began = time.monotonic()
        with httpx.Client(trust_env=False, timeout=30) as client:
            while time.monotonic() < began + seconds + GRACE_SECONDS:
                answer = client.get(f"http://127.0.0.1:{self._rig.ports[0]}/healthz")
                self.health[answer.status_code] += 1
                self.most = max(self.most, self._process.memory_info().rss)
                time.sleep(0.1)
        return self._rig.plan.answers(began + GRACE_SECONDS)


def test_while_the_database_is_away_everybody_is_told_at_once(tmp_path: Path) -> None:
    with rigged(tmp_path, apis=1, workers=1) as rig:
        rig.plan = replace(rig.plan, patience=60)
        rig.load(sdk=False)
        rig.await_batches(40)
        watch = Watch(rig)
        frozen = rig.database.freeze()
        hanging = watch.look_on(AWAY_SECONDS)
        thaw(frozen)
        rig.await_batches(20)
        rig.database.stop()
        stopped = watch.look_on(AWAY_SECONDS)
        rig.database.start()
        rig.finish(300)
        found = {**audit.look(rig.database.url), **audit.lost(rig.database.url, rig.plan)}
        every = rig.plan.answers()
        violations = rig.plan.violations()
    for name, answers in (("frozen", hanging), ("stopped", stopped)):
        seconds = [took for _, took in answers]
        print(f"{name}: {len(answers)} answers, median {statistics.median(seconds):.3f} s")
        assert {status for status, _ in answers} == {503}
        # Who waits for the database waits for four.
        assert statistics.median(seconds) < 3
    print(f"longest {max(took for _, took in every):.2f} s, {Counter(s for s, _ in every)}")
    print(f"memory +{(watch.most - watch.before) / 2**20:.1f} MiB, health {watch.health}, {found}")
    assert violations == []
    assert set(watch.health) == {200}
    assert watch.most - watch.before < MEMORY
    assert audit.contradictions(found) == {}
