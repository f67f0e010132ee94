"""The background thread that empties the buffers."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from modelwatch.encoding import encode
from modelwatch.refusals import Refusals

if TYPE_CHECKING:
    from modelwatch.buffer import Buffer, Record
    from modelwatch.transport import Answer, Transport

FIRST_DELAY = 0.2
LONGEST_DELAY = 30.0
LOCKED_OUT_DELAY = 30.0
LONGEST_RETRY_AFTER = 300.0
WARN_SECONDS = 60.0
UNAUTHENTICATED = 401

_logger = logging.getLogger("modelwatch")


class Sender:
    """Sends batches of one model's records until they are taken."""

    def __init__(
        self,
        transport: Transport,
        routes: list[tuple[str, bytes, Buffer]],
        *,
        batch: int,
        interval: float,
    ) -> None:
        self._transport = transport
        self._routes = routes
        self._batch = batch
        self._interval = interval
        # Our own: a host that has seeded the global one must see it undisturbed.
        self._random = random.Random()  # noqa: S311 - no secret
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._warned = float("-inf")
        self._unwarned = Refusals()
        self.unflushed = Refusals()
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Start the thread; it never keeps the process alive."""
        threading.Thread(target=self._run, name="modelwatch-sender", daemon=True).start()

    def flush(self, timeout: float) -> bool:
        """Wait until the buffers are empty."""
        self._wake.set()
        with self._idle:
            return self._idle.wait_for(self._is_empty, timeout)

    def _is_empty(self) -> bool:
        return not any(len(buffer) for _, _, buffer in self._routes)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()
            while not self._is_empty():
                for path, head, buffer in self._routes:
                    self._send(path, head, buffer)
            with self._idle:
                self._idle.notify_all()

    def _send(self, path: str, head: bytes, buffer: Buffer) -> None:
        records = buffer.due(self._batch)
        if not records:
            return
        encoded = [text for text in map(self._encode, records) if text is not None]
        try:
            if encoded:
                self._deliver(path, head, encoded)
        except Exception as fault:  # noqa: BLE001 - a strange answer must not end the thread
            self.counts["rejected"] += len(encoded)
            self._warn(f"the answer cannot be read: {fault!r}")
        buffer.acknowledge()

    def _encode(self, record: Record) -> bytes | None:
        try:
            return encode(record)
        except Exception as fault:  # noqa: BLE001 - a host's object may raise anything
            self.counts["unserialisable"] += 1
            self._warn(f"a record cannot be sent: {fault!r}")
            return None

    def _deliver(self, path: str, head: bytes, encoded: list[bytes]) -> None:
        answer = self._post(path, head + b",".join(encoded) + b"]}")
        if answer.is_divisible and len(encoded) > 1:
            middle = len(encoded) // 2
            self._deliver(path, head, encoded[:middle])
            self._deliver(path, head, encoded[middle:])
            return
        accepted = int(answer.document.get("accepted", 0))
        duplicates = int(answer.document.get("duplicates", 0))
        self.counts["accepted"] += accepted
        self.counts["duplicates"] += duplicates
        if refused := len(encoded) - accepted - duplicates:
            self.counts["rejected"] += refused
            for refusals in (self._unwarned, self.unflushed):
                refusals.add(refused, answer.status, answer.document)
            self._warn()

    def _post(self, path: str, body: bytes) -> Answer:
        """Send until the server decides; the buffer bounds what can gather meanwhile."""
        delay = FIRST_DELAY
        while True:
            answer = self._transport.post(path, body)
            if not answer.is_retryable and not answer.is_locked_out:
                return answer
            self.counts["retries"] += 1
            if answer.is_locked_out:
                # People have to act first; a host that hammers on the door helps nobody.
                self._warn(self._why_locked_out(answer), logging.ERROR)
                time.sleep(self._random.uniform(LOCKED_OUT_DELAY / 2, LOCKED_OUT_DELAY))
                continue
            self._warn(self._why_not(answer))
            # Full jitter: a thousand hosts that were cut off together do not return together.
            wait = self._random.uniform(0, delay)
            time.sleep(max(wait, min(answer.retry_after, LONGEST_RETRY_AFTER)))
            delay = min(2 * delay, LONGEST_DELAY)

    def _why_not(self, answer: Answer) -> str:
        address = self._transport.address
        if answer.status is None:
            return f"the server at {address} cannot be reached ({answer.cause}); records wait"
        return f"the server at {address} answers {answer.status}; records wait"

    def _why_locked_out(self, answer: Answer) -> str:
        where = f"the server at {self._transport.address}"
        if answer.status == UNAUTHENTICATED:
            return f"{where} does not know the key (MODELWATCH_API_KEY); records wait"
        return f"{where} does not take predictions with this key; records wait"

    def _warn(self, text: str = "", level: int = logging.WARNING) -> None:
        """Log at most once a minute: the text, and what was refused since the last time."""
        if time.monotonic() - self._warned >= WARN_SECONDS:
            self._warned = time.monotonic()
            refused = self._unwarned.told()
            _logger.log(level, "%s", "; ".join(part for part in (text, refused) if part))
