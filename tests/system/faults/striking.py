"""The faults: each strikes, and returns how it is ended."""

import random
import signal
from collections.abc import Callable
from functools import partial

from tests.system.faults.database import thaw
from tests.system.faults.proxy import Proxy
from tests.system.faults.rig import Rig
from tests.system.faults.roles import Role

Heal = Callable[[], None]
Strike = Callable[[Rig, random.Random], Heal | None]


def _killed(role: Role) -> None:
    role.kills += 1
    role.send(signal.SIGKILL)


def kill_api(rig: Rig, choice: random.Random) -> None:
    _killed(choice.choice(rig.apis))


def kill_worker(rig: Rig, choice: random.Random) -> None:
    _killed(choice.choice(rig.workers))


def kill_client(rig: Rig, _choice: random.Random) -> None:
    _killed(rig.clients[0])


def kill_database(rig: Rig, _choice: random.Random) -> None:
    rig.database.kill()


def kill_backend(rig: Rig, choice: random.Random) -> None:
    rig.database.kill_one(choice)


def _freeze(role: Role) -> Heal:
    role.send(signal.SIGSTOP)
    return partial(role.send, signal.SIGCONT)


def freeze_api(rig: Rig, choice: random.Random) -> Heal:
    return _freeze(choice.choice(rig.apis))


def freeze_worker(rig: Rig, choice: random.Random) -> Heal:
    return _freeze(choice.choice(rig.workers))


def freeze_backends(rig: Rig, choice: random.Random) -> Heal:
    backends = rig.database.backends()
    some = choice.sample(backends, len(backends) // 2)
    return partial(thaw, rig.database.freeze(some))


def freeze_database(rig: Rig, _choice: random.Random) -> Heal:
    return partial(thaw, rig.database.freeze())


def _wire(rig: Rig, choice: random.Random) -> Proxy:
    return choice.choice([*rig.links, *rig.doors])


def cut(rig: Rig, choice: random.Random) -> None:
    _wire(rig, choice).cut()


def black_hole(rig: Rig, choice: random.Random) -> Heal:
    wire, loses = _wire(rig, choice), choice.random() < 0.5
    wire.hold()

    def heal() -> None:
        if loses:
            wire.cut()
        wire.release()

    return heal


def delay(rig: Rig, choice: random.Random) -> Heal:
    wire = _wire(rig, choice)
    wire.delay = choice.uniform(0.01, 0.2)

    def heal() -> None:
        wire.delay = 0.0

    return heal


def fill_disk(rig: Rig, _choice: random.Random) -> Heal:
    disk = rig.database.disk
    disk.fill()
    return disk.clear


STRIKES: dict[Strike, int] = {
    kill_api: 3,
    kill_worker: 4,
    kill_client: 2,
    kill_database: 2,
    kill_backend: 1,
    freeze_api: 2,
    freeze_worker: 3,
    freeze_backends: 2,
    freeze_database: 1,
    cut: 4,
    black_hole: 3,
    delay: 2,
    fill_disk: 2,
}


def possible(rig: Rig) -> dict[Strike, int]:
    """Return the faults that can be made here."""
    if rig.database.disk.is_own:
        return STRIKES
    return {kind: weight for kind, weight in STRIKES.items() if kind is not fill_disk}


# Longer than a lease, and than the time in which the API gives a database up.
LONG = 0.04


def length(choice: random.Random) -> float:
    """Return how long a fault lasts."""
    return choice.uniform(4, 6) if choice.random() < LONG else choice.uniform(0.1, 1.5)
