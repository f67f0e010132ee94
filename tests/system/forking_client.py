"""A host that forks while its threads log: ``python forking_client.py URL FORKS ROWS``.

Its output is how many rows each process logged, as JSON.
"""

import json
import multiprocessing
import os
import sys
import threading
import time

from modelwatch import Monitor

THREADS = 3


def log_rows(monitor: Monitor, name: str, rows: int) -> None:
    """Log rows 0, 1, 2 and so on of a process."""
    for row in range(rows):
        monitor.log({"x": row}, row % 2, prediction_id=f"{name}:{row}")


def child_of_os(monitor: Monitor, name: str, rows: int, *, abruptly: bool) -> int:
    """Fork as a server does; the child ends as Python does, or by a flush and without a word."""
    pid = os.fork()
    if pid:
        return pid
    log_rows(monitor, name, rows)
    if abruptly:
        while not monitor.flush(60):
            pass
        os._exit(0)
    sys.exit(0)


def main() -> None:
    """Fork again and again, and wait for all."""
    url, forks, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    monitor = Monitor("loans", "7", url=url, interval=0.02, timeout=60, max_rows=1_000_000)
    stop = threading.Event()
    logged = dict.fromkeys((f"thread-{at}" for at in range(THREADS)), 0)

    def log_on(name: str) -> None:
        while not stop.wait(0.001):
            monitor.log({"x": 1}, 0, prediction_id=f"{name}:{logged[name]}")
            logged[name] += 1

    threads = [threading.Thread(target=log_on, args=(name,)) for name in logged]
    for thread in threads:
        thread.start()
    pids, children = [], []
    for fork in range(forks):
        name = f"child-{fork}"
        if fork % 3 == 2:
            context = multiprocessing.get_context("fork")
            child = context.Process(target=log_rows, args=(monitor, name, rows))
            child.start()
            children.append(child)
        else:
            pids.append(child_of_os(monitor, name, rows, abruptly=fork % 3 == 1))
        time.sleep(0.01)
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    for child in children:
        child.join()
        codes.append(child.exitcode or 0)
    stop.set()
    for thread in threads:
        thread.join()
    while not monitor.flush(60):
        pass
    forked = {f"child-{fork}": rows for fork in range(forks)}
    sys.stdout.write(json.dumps({"logged": {**logged, **forked}, "codes": codes}))


if __name__ == "__main__":
    main()
