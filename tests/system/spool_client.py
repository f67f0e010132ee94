"""A host that logs until it is killed, and writes down what it was promised."""

import os
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

from modelwatch import Monitor
from modelwatch.outlet import Outlet
from modelwatch.queues import Batch

THREADS = 3


def record(number: int) -> dict[str, float]:
    """Return the features of a record: they follow from its number."""
    return {"income": number * 7_919 % 1_000 / 1_000}


def careless(due: Callable[[Outlet, int, int], Batch | None]) -> Any:
    """Return a sender's way to take a batch that has it removed before it was answered."""

    def taken(outlet: Outlet, rows: int, size: int) -> Batch | None:
        batch = due(outlet, rows, size)
        outlet.settle()
        return batch

    return taken


def log(monitor: Monitor, journal: int, name_of_host: str, thread: int) -> None:
    choice = random.Random(f"{name_of_host}-{thread}")
    number = 0
    while True:
        number += 1
        name = f"{name_of_host}.{thread}-{number}"
        durable = choice.random() < 0.5
        monitor.log(record(number), 1, prediction_id=name, durable=durable)
        if durable:
            # After it returned: what is written down was promised.
            os.write(journal, f"{name}\n".encode())


def main(url: str, path: str, journal: str, life: str, name: str) -> None:
    if name == "careless":
        setattr(Outlet, "due", careless(Outlet.due))  # noqa: B010 - mypy forbids the assignment
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    monitor = Monitor("loans", "7", url=url, spool=path, interval=0.02, batch=50)
    print("ready", flush=True)
    for thread in range(THREADS):
        threading.Thread(target=log, args=(monitor, descriptor, f"{name}-{life}", thread)).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
