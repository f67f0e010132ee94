"""Child processes of ``up``: started, told their settings, started again, stopped."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from service.settings import Settings

FIRST_DELAY = 0.5
MOST_RESTARTS = 5
HEALTHY_SECONDS = 60.0


def settings_message(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON values, secrets in the clear: for a child's pipe only."""
    message = settings.model_dump(mode="json")
    for name, value in settings:
        if isinstance(value, SecretStr):
            message[name] = value.get_secret_value()
    return message


@dataclass
class Child:
    """One role and the process that runs it; its pipe's end tells it that ``up`` is gone."""

    role: str
    pass_fds: Sequence[int] = ()
    restarts: int = 0
    due: float | None = None
    _message: Mapping[str, Any] | None = None
    _process: subprocess.Popen[bytes] | None = None
    _started: float = field(default=0.0)

    def start(self) -> None:
        """Start the process; it waits for its settings."""
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-m", "service.processes.child", self.role],
            stdin=subprocess.PIPE,
            pass_fds=self.pass_fds,
            # Ctrl-C in a terminal reaches the whole foreground group; the order of stopping is
            # the supervisor's.
            process_group=0,
        )
        self._started = time.monotonic()
        self.due = None
        if self._message is not None:
            self.tell(self._message)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send the settings, now and after each restart."""
        self._message = message
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(dict(message)).encode() + b"\n")
            self._process.stdin.flush()

    def exit_code(self) -> int | None:
        """Return how the process ended, or None while it runs."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            # Helpers of its own, which a process that was killed could not stop.
            self._kill_group()
        return code

    def plan_restart(self) -> float | None:
        """Plan the next start and return its delay; None when it has died too often."""
        if time.monotonic() - self._started > HEALTHY_SECONDS:
            self.restarts = 0
        if self.restarts >= MOST_RESTARTS:
            return None
        delay = FIRST_DELAY * 2.0**self.restarts
        self.restarts += 1
        self.due = time.monotonic() + delay
        self._close()
        return delay

    def ask_to_stop(self) -> None:
        """Send SIGTERM, to the process alone: it stops its own helpers in its own order."""
        if self._process is not None:
            self._process.terminate()

    def finish(self, seconds: float) -> None:
        """Wait for the end, and force it when the time is over."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._process.wait()
        self._kill_group()
        self._close()

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = None
