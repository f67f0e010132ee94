"""A client that fixes ids and times once, repeats until it is answered, and keeps a journal.

Everything a record says follows from its number, so that SQL can tell whether it was stored as it
was sent.
"""

import http.client
import json
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import modelwatch
from modelwatch import sender

MODEL, VERSION = "faults", "1"
START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(seconds=15)
TURN = 4_000
"""From this number on the model is wrong."""
REGIONS = ("north", "south", "east", "west")
PATIENCE = 6.0
LAG = 2


def prediction(number: int) -> dict[str, Any]:
    """Return what is predicted under a number."""
    return {
        "prediction_id": f"p{number}",
        "ts": (START + number * STEP).isoformat(),
        "features": {"income": number * 7_919 % 1_000 / 1_000, "region": REGIONS[number % 4]},
        "prediction": str(_class(number)),
        "score": number * 104_729 % 1_000 / 1_000,
    }


def label(number: int) -> dict[str, Any]:
    """Return what was true."""
    wrong = number >= TURN or number % 20 == 0
    return {
        "prediction_id": f"p{number}",
        "label": str(1 - _class(number) if wrong else _class(number)),
        "label_ts": (START + number * STEP + timedelta(days=1)).isoformat(),
    }


def _class(number: int) -> int:
    return int(number * 104_729 % 1_000 >= 500)


@dataclass(frozen=True)
class Plan:
    """Who sends what where; ``pause`` is the least time between two batches of a thread."""

    folder: str
    ports: Sequence[int]
    threads: int = 8
    rows: int = 25
    pause: float = 0.03
    patience: float = PATIENCE
    headers: Mapping[str, str] = field(default_factory=dict)

    def numbers(self, thread: int, batch: int) -> range:
        """Return the numbers of a batch."""
        first = (batch * self.threads + thread) * self.rows
        return range(first, first + self.rows)

    def finish(self) -> None:
        """Ask the client to end once everything it has begun is acknowledged."""
        (Path(self.folder) / "finish").touch()

    @property
    def is_finished(self) -> bool:
        """Whether nothing new is to be begun."""
        return (Path(self.folder) / "finish").exists()

    def acknowledged(self, kind: str) -> Iterator[int]:
        """Yield the numbers of the rows for which there was a 200."""
        for thread in range(self.threads):
            for batch in set(_journal(self, thread)[kind]):
                yield from self.numbers(thread, batch)

    def batches(self) -> int:
        """Return how many batches were acknowledged."""
        journals = (_journal(self, thread) for thread in range(self.threads))
        return sum(len(batches) for journal in journals for batches in journal.values())

    def violations(self) -> list[str]:
        """Return the answers that no client should have seen."""
        path = Path(self.folder) / "violations"
        return path.read_text().splitlines() if path.exists() else []

    def answers(self, since: float = 0.0) -> list[tuple[int, float]]:
        """Return status and duration of the requests answered since; status 0 stands for none."""
        found = []
        for path in Path(self.folder).glob("answers-*"):
            for line in path.read_text().splitlines():
                status, seconds, at = line.split()
                if float(at) >= since:
                    found.append((int(status), float(seconds)))
        return found


def _journal(plan: Plan, thread: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"predictions": [], "labels": []}
    path = Path(plan.folder) / f"journal-{thread}"
    if path.exists():
        for line in path.read_text().splitlines():
            kind, batch = line.split()
            found[kind].append(int(batch))
    return found


def send(plan: Plan) -> None:
    """Send until told to finish; after a SIGKILL go on where the journal ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with ThreadPoolExecutor(plan.threads) as threads:
        for done in [threads.submit(_Sender(plan, t).run) for t in range(plan.threads)]:
            done.result()


class _Sender:
    def __init__(self, plan: Plan, thread: int) -> None:
        self._plan = plan
        self._thread = thread
        self._random = random.Random()
        self._connection: http.client.HTTPConnection | None = None
        self._port = thread
        folder = Path(plan.folder)
        self._journal = os.open(
            folder / f"journal-{thread}", os.O_CREAT | os.O_WRONLY | os.O_APPEND
        )
        self._answers = os.open(
            folder / f"answers-{thread}", os.O_CREAT | os.O_WRONLY | os.O_APPEND
        )

    def run(self) -> None:
        known = _journal(self._plan, self._thread)
        # The last step may have been left half done; to repeat it changes nothing.
        batch = max([0, *known["predictions"], *(early - 1 for early in known["labels"])])
        while True:
            began = time.monotonic()
            self._step(batch)
            batch += 1
            # The labels of every fifth batch went ahead of it.
            if self._plan.is_finished and batch % 5:
                break
            time.sleep(max(0.0, self._plan.pause - (time.monotonic() - began)))
        for late in range(max(0, batch - LAG), batch):
            if late % 5:
                self._post("labels", late)

    def _step(self, batch: int) -> None:
        """Send a batch, and labels: of every fifth batch before it, of the others later."""
        if (batch + 1) % 5 == 0:
            self._post("labels", batch + 1)
        if batch == 0:
            self._post("labels", 0)
        self._post("predictions", batch)
        if batch >= LAG and (batch - LAG) % 5:
            self._post("labels", batch - LAG)

    def _post(self, kind: str, batch: int) -> None:
        make = prediction if kind == "predictions" else label
        numbers = self._plan.numbers(self._thread, batch)
        envelope: dict[str, Any] = {"model": MODEL, "records": [make(n) for n in numbers]}
        if kind == "predictions":
            envelope["version"] = VERSION
        body = json.dumps(envelope)
        delay = 0.05
        while not self._is_taken(kind, body, len(numbers)):
            time.sleep(self._random.uniform(0, delay))
            delay = min(2 * delay, 0.5)
        os.write(self._journal, f"{kind} {batch}\n".encode())

    def _is_taken(self, kind: str, body: str, rows: int) -> bool:
        began = time.monotonic()
        status, problem = 0, ""
        with suppress(OSError, http.client.HTTPException):
            status, problem = self._exchange(kind, body, rows)
        if problem:
            with suppress(OSError), (Path(self._plan.folder) / "violations").open("a") as file:
                file.write(f"{kind}: {status} {problem}\n")
        ended = time.monotonic()
        os.write(self._answers, f"{status} {ended - began:.3f} {ended:.3f}\n".encode())
        if status != http.HTTPStatus.OK:
            # The next address may be alive.
            self._hang_up()
        return status == http.HTTPStatus.OK and not problem

    def _exchange(self, kind: str, body: str, rows: int) -> tuple[int, str]:
        if self._connection is None:
            port = self._plan.ports[self._port % len(self._plan.ports)]
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", port, timeout=self._plan.patience
            )
        headers = {"Content-Type": "application/json", **self._plan.headers}
        self._connection.request("POST", f"/v1/{kind}", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status in {429, 503}:
            return answer.status, "" if answer.getheader("Retry-After") else "no Retry-After"
        if answer.status == 408:
            return answer.status, ""
        if answer.status != http.HTTPStatus.OK:
            return answer.status, content[:300].decode(errors="replace")
        counts = json.loads(content)
        if counts["accepted"] + counts["duplicates"] != rows or counts["rejected"]:
            return answer.status, content[:300].decode(errors="replace")
        return answer.status, ""

    def _hang_up(self) -> None:
        self._port += 1
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def log_by_sdk(plan: Plan) -> None:
    """Log through the SDK until told to finish; then say what it promised."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A test does not wait for the half minute after which a host tries again at last.
    sender.LONGEST_DELAY = 1.0
    key = plan.headers.get("Authorization", "").removeprefix("Bearer ") or None
    url = f"http://127.0.0.1:{plan.ports[0]}"
    monitor = modelwatch.Monitor(
        MODEL, VERSION, url=url, api_key=key, timeout=PATIENCE, max_rows=1_000_000
    )
    # Its own numbers lie before the others', and its windows with them.
    number = -1
    while not plan.is_finished:
        record = prediction(number)
        monitor.log(
            record["features"],
            record["prediction"],
            score=record["score"],
            prediction_id=record["prediction_id"],
            ts=START + number * STEP,
        )
        number -= 1
        time.sleep(0.02)
    done = monitor.flush(60)
    report = {**monitor.stats(), "done": done, "last": number + 1}
    (Path(plan.folder) / "sdk").write_text(json.dumps(report))
