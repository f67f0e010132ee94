"""The processes of the service, forked from one that has imported everything.

They are killed by the dozen, and an import would cost a hundred times what the process lives for.
"""

import contextlib
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import scipy.stats  # noqa: F401  judging a window imports it at its first use
import sklearn.isotonic  # noqa: F401  as above

from service.ingest import link
from service.ingest import service as ingest
from service.ingest.batch import Batch
from service.ingest.store import Store
from service.processes import api, worker
from service.settings import Settings

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])

LOSSY_SECONDS = 0.2


class Role:
    """A process that is started again and again under one name."""

    def __init__(self, name: str, logs: Path, target: Callable[..., None], *given: Any) -> None:
        self.name = name
        self.kills = 0
        self._log = logs / f"{name}.log"
        self._target = target
        self._given = given
        self._process: Any = None

    @property
    def pid(self) -> int:
        """Return the id of the process that runs now."""
        return int(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """Return how it ended; ``None`` while it runs."""
        code: int | None = self._process.exitcode
        return code

    def start(self) -> None:
        """Start it; it does not run."""
        assert self._process is None or self.exit_code is not None, f"{self.name} runs already"
        self._process = _processes.Process(
            target=_run, args=(str(self._log), self._target, *self._given), name=self.name
        )
        self._process.start()

    def send(self, signum: int) -> None:
        """Send it a signal."""
        if self._process is not None and self._process.pid and self.exit_code is None:
            # It may end by itself at any moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def stop(self) -> int | None:
        """Ask it to end, and insist after a while; return how it ended."""
        if self._process is None:
            return None
        if self.exit_code is None:
            self._process.terminate()
            self._process.join(15)
        if self.exit_code is None:
            self._process.kill()
        self._process.join()
        return self.exit_code

    def log(self) -> str:
        """Return what all its lives have said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _run(log: str, target: Callable[..., None], *given: Any) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    target(*given)


def serve(settings: dict[str, Any]) -> None:
    """Run an API."""
    sys.exit(api.run(Settings(**settings)))


def work(settings: dict[str, Any]) -> None:
    """Run a worker."""
    sys.exit(worker.run(Settings(**settings)))


def serve_from_memory(settings: dict[str, Any]) -> None:
    """Run an API that answers before it has committed: the control that must be caught."""

    class Memory(Store):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._queue: queue.Queue[Sequence[Batch]] = queue.Queue()
            threading.Thread(target=self._empty, daemon=True).start()

        def commit(self, batches: Sequence[Batch]) -> None:
            for batch in batches:
                batch.verdicts.accepted += len(batch)
            self._queue.put(list(batches))

        def _empty(self) -> None:
            while True:
                time.sleep(LOSSY_SECONDS)
                try:
                    super().commit(self._queue.get())
                except Exception:  # noqa: BLE001  what is lost is lost
                    super().close()

    vars(ingest)["Store"] = Memory
    serve(settings)


def serve_asynchronously(settings: dict[str, Any]) -> None:
    """Run an API whose database commits to memory: the other control."""
    lossy = link._OPTIONS.replace("synchronous_commit=on", "synchronous_commit=off")
    with (
        mock.patch.object(link, "_OPTIONS", lossy),
        # The service itself would find out.
        mock.patch.object(link.Link, "_require_durable"),
    ):
        serve(settings)
