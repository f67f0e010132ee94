"""A model server that logs at a steady rate, and says what that cost it.

``python outage_client.py URL SPOOL RATE``: each line of its input is a phase that begins; an
empty one is the end.  Each line of its output is what it has seen in one phase.
"""

import json
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

from modelwatch import Monitor

FEATURES = 20


def resident() -> int:
    """Return the bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def quantile(ordered: list[int], share: float) -> float:
    """Return one of the sorted nanoseconds, in microseconds."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e3


class Host:
    """Logs rows 0, 1, 2 and so on."""

    def __init__(self, url: str, spool: str, rate: float) -> None:
        self.monitor = Monitor(
            "loans", "7", url=url, spool=None if spool == "-" else spool, spool_bytes=4 << 30
        )
        self._rate = rate
        self._rows = 0
        self._spent: list[int] = []
        self._memory: list[int] = []
        self._first = {"sent": 0, "at": time.monotonic(), "rows": 0}

    def log_on(self, stop: threading.Event) -> None:
        """Log until told to stop, at a rate that does not fall behind."""
        began = time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._rate)
            while self._rows < due:
                row = self._rows
                features = {f"f{i}": (row * (i + 1)) % 1000 / 7 for i in range(FEATURES)}
                start = time.perf_counter_ns()
                self.monitor.log(features, row % 2, score=0.25, prediction_id=f"row-{row}")
                self._spent.append(time.perf_counter_ns() - start)
                self._rows += 1
                if row % 1000 == 0:
                    self._memory.append(resident())
            time.sleep(0.001)

    def seen(self) -> dict[str, Any]:
        """Return what was seen since the last time."""
        spent, self._spent = sorted(self._spent) or [0], []
        memory, self._memory = self._memory or [resident()], []
        stats, now, before = self.monitor.stats(), time.monotonic(), self._first
        seconds = now - before["at"]
        self._first = {"sent": stats["sent"], "at": now, "rows": self._rows}
        return {
            "seconds": seconds,
            "rows": self._rows,
            "rate": (self._rows - before["rows"]) / seconds,
            "sent_a_second": (stats["sent"] - before["sent"]) / seconds,
            "p50": quantile(spent, 0.5),
            "p99": quantile(spent, 0.99),
            "memory": [min(memory), max(memory)],
            "stats": stats,
        }


def main() -> None:
    """Log, and answer for each phase."""
    url, spool, rate = sys.argv[1:]
    host = Host(url, spool, float(rate))
    stop = threading.Event()
    thread = threading.Thread(target=host.log_on, args=(stop,))
    thread.start()
    for line in sys.stdin:
        if not line.strip():
            break
        sys.stdout.write(json.dumps(host.seen()) + "\n")
        sys.stdout.flush()
    stop.set()
    thread.join()
    until = time.monotonic() + 300
    while not host.monitor.flush(30) and time.monotonic() < until:
        pass
    sys.stdout.write(json.dumps(host.seen()) + "\n")


if __name__ == "__main__":
    main()
