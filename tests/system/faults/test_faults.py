"""Random faults lose nothing, double nothing and leave nothing half done; and the control fails."""

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sized
from tests.system.faults import audit, roles, striking
from tests.system.faults.load import MODEL, VERSION, prediction
from tests.system.faults.rig import Rig, rigged

FAULTS = sized(default=100, full=1_000)
SPACING = 0.25
DRAIN_SECONDS = 240.0
CONTROL_FAULTS = 4


def strike(
    rig: Rig,
    count: int,
    choice: random.Random,
    kinds: dict[striking.Strike, int],
) -> Counter[str]:
    """Let faults strike, several at once, and end the last of them."""
    struck: Counter[str] = Counter()
    healing: list[tuple[float, Any, striking.Heal]] = []
    chosen, weights = list(kinds), list(kinds.values())
    while struck.total() < count:
        now = time.monotonic()
        for ended in [one for one in healing if one[0] <= now]:
            healing.remove(ended)
            ended[2]()
        rig.supervise(choice)
        kind = choice.choices(chosen, weights)[0]
        # One of a kind at a time: to end the one would end the other.
        if all(kind is not other for _, other, _ in healing):
            heal = kind(rig, choice)
            struck[kind.__name__] += 1
            if heal is not None:
                healing.append((time.monotonic() + striking.length(choice), kind, heal))
        time.sleep(choice.uniform(0, 2 * SPACING))
    for _, _, heal in healing:
        heal()
    return struck


def counted(rig: Rig) -> Counter[str]:
    """Return the rows that all APIs have counted, by kind and result."""
    found: Counter[str] = Counter()
    for api in range(len(rig.apis)):
        with rig.client(api) as client:
            for line in client.get("/metrics").text.splitlines():
                if line.startswith("modelwatch_ingest_rows_total") and MODEL in line:
                    name, value = line.rsplit(" ", 1)
                    kind, result = (name.split(f'{key}="')[1].split('"')[0] for key in _KEYS)
                    found[f"{kind} {result}"] += int(float(value))
    return found


_KEYS = ("kind", "result")


def assert_counters_tell_the_truth(rig: Rig, stored: dict[str, int]) -> None:
    """Send some rows, some of them again and some wrong, and compare what is said of them."""
    # The host counts down from -1 for as long as the faults take.
    before, new = counted(rig), range(-1_000_000, -999_000)
    again = [prediction(number) for number in range(100)]
    wrong = [{**prediction(number), "ts": "yesterday"} for number in range(-1_000_010, -1_000_000)]
    for position, number in enumerate(new[::100]):
        rows = [prediction(n) for n in range(number, number + 100)]
        with rig.client(position % len(rig.apis)) as client:
            envelope = {"model": MODEL, "version": VERSION, "records": [*rows, *again, *wrong]}
            answer = client.post("/v1/predictions", json=envelope)
            assert answer.status_code == 200, answer.text
    rig.drain(60)
    found = audit.look(rig.database.url)
    assert found["rows"] - stored["rows"] == len(new)
    assert dict(counted(rig) - before) == {
        "predictions accepted": len(new),
        "predictions duplicate": 10 * len(again),
        "predictions rejected": 10 * len(wrong),
    }


def test_random_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    began = time.monotonic()
    with rigged(tmp_path) as rig:
        rig.load()
        struck = strike(rig, FAULTS, random.Random(seed), striking.possible(rig))
        seconds = time.monotonic() - began
        rig.finish(DRAIN_SECONDS)
        found = {**audit.look(rig.database.url), **audit.lost(rig.database.url, rig.plan)}
        sdk = json.loads((tmp_path / "sdk").read_text())
        print(f"seed {seed}: {struck.total()} faults in {seconds:.0f} s, {dict(struck)}")
        print(
            {role.name: role.kills for role in rig.roles}, Counter(a for a, _ in rig.plan.answers())
        )
        print(found, sdk, f"{time.monotonic() - began:.0f} s")
        assert rig.plan.violations() == []
        assert audit.contradictions(found) == {}
        assert found["requests"] <= 1
        assert len(set(rig.hook.ids)) == found["events"]
        assert (sdk["done"], sdk["dropped"], sdk["rejected"]) == (True, 0, 0)
        assert sdk["accepted"] + sdk["duplicates"] == sdk["logged"] == -sdk["last"]
        stored = found["predictions_acknowledged"] + found["predictions_unacknowledged"]
        assert found["rows"] == stored + sdk["logged"]
        assert_counters_tell_the_truth(rig, found)


CONTROLS = {
    "memory": (roles.serve_from_memory, striking.kill_api),
    "asynchronous": (roles.serve_asynchronously, striking.kill_database),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_the_control_loses_rows_and_is_caught(control: str, tmp_path: Path) -> None:
    serve, kill = CONTROLS[control]
    choice = random.Random(0)
    with rigged(tmp_path, serve=serve, apis=1, workers=0) as rig:
        rig.load(sdk=False)
        for _ in range(CONTROL_FAULTS):
            rig.await_batches(20)
            kill(rig, choice)
        rig.finish_clients(60)
        time.sleep(2 * roles.LOSSY_SECONDS)
        found = audit.lost(rig.database.url, rig.plan)
    print(found)
    assert found["predictions_lost"] > 0
