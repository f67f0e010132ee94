"""Events as the logger of KServe emits them: five workers, no order, no retry.

Every event has a connection of its own, and any status but 200 is an error that is logged and
forgotten.  Run by itself it logs made-up requests:

    python -m tests.system.kserve http://key:mw_…@127.0.0.1:8080/v1/cloudevents --requests 1000
"""

import argparse
import base64
import http.client
import json
import queue
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

WORKERS = 5
QUEUED = 100
Job = tuple[str, str, str, bytes]


class Logger:
    """Queues events, and posts them from its workers.

    With ``patience`` it is no logger but a broker, which delivers an event until it is taken.
    """

    def __init__(
        self, url: str, service: str, *, jitter: float = 0.0, patience: float = 0.0
    ) -> None:
        self._url = urlsplit(url)
        self._service = service
        self._jitter = jitter
        self._patience = patience
        self._queue: queue.Queue[Job | None] = queue.Queue(QUEUED)
        self.statuses: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._workers = [threading.Thread(target=self._work) for _ in range(WORKERS)]
        for worker in self._workers:
            worker.start()

    def log(self, side: str, request_id: str, payload: Any) -> None:
        """Queue an event."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "123Z")
        self._queue.put((side, request_id, at, json.dumps(payload).encode()))

    def close(self) -> Counter[int]:
        """Wait for what is queued, and return how often each status came."""
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.join()
        return self.statuses

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if self._jitter:
                time.sleep(random.uniform(0, self._jitter))
            deadline = time.monotonic() + self._patience
            while (status := self._tried(job)) != HTTPStatus.OK and time.monotonic() < deadline:
                time.sleep(0.1)
            with self._lock:
                self.statuses[status] += 1

    def _tried(self, job: Job) -> int:
        try:
            return self._send(*job)
        except (OSError, http.client.HTTPException):
            return 0

    def _send(self, side: str, request_id: str, at: str, body: bytes) -> int:
        connection = http.client.HTTPConnection(str(self._url.hostname), self._url.port, timeout=60)
        path = self._url.path + (f"?{self._url.query}" if self._url.query else "")
        headers = {
            "Ce-Specversion": "1.0",
            "Ce-Id": request_id,
            "Ce-Source": "http://localhost:9081/",
            "Ce-Type": f"org.kubeflow.serving.inference.{side}",
            "Ce-Time": at,
            "Ce-Inferenceservicename": self._service,
            "Ce-Namespace": "default",
            "Ce-Component": "predictor",
            "Ce-Endpoint": "",
            "Ce-Metadata": "{}",
            "Content-Type": "application/json",
        }
        if self._url.password:
            # What Go's client makes of an address with a password.
            shown = base64.b64encode(f"{self._url.username}:{self._url.password}".encode())
            headers["Authorization"] = f"Basic {shown.decode()}"
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


def inferences(count: int, seed: int | None = None) -> Iterable[tuple[str, Any, Any]]:
    """Yield ids, requests and responses of a model of flowers."""
    randomness = random.Random(seed)
    for _ in range(count):
        row = [round(randomness.gauss(5, 2), 2) for _ in range(4)]
        positive = randomness.random()
        asked = {"instances": [row]}
        yield (
            str(uuid.UUID(int=randomness.getrandbits(128))),
            asked,
            {"predictions": [[1 - positive, positive]]},
        )


def main() -> int:
    """Log made-up requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--service", default="iris")
    parser.add_argument("--requests", type=int, default=1_000)
    given = parser.parse_args()
    logger = Logger(given.url, given.service)
    began = time.monotonic()
    for name, asked, answered in inferences(given.requests):
        logger.log("request", name, asked)
        logger.log("response", name, answered)
    statuses = logger.close()
    seconds = time.monotonic() - began
    sys.stdout.write(f"{dict(statuses)} in {seconds:.1f} s\n")
    return 0 if set(statuses) == {200} else 1


if __name__ == "__main__":
    sys.exit(main())
