"""A small process that stops the embedded database when ``up`` itself was killed.

The other children end when their pipe does; PostgreSQL has no such pipe, and it must not stop
before the processes that are still committing to it.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.db.postmaster import stop_postmaster
from service.processes.stopping import ORPHAN_SECONDS


def run_child(message: Mapping[str, Any]) -> int:
    """Wait for the end of the pipe; a signal ends this process without a trace."""
    while os.read(0, 4096):
        pass
    time.sleep(ORPHAN_SECONDS)
    stop_postmaster(message["pid"], Path(message["cluster"]))
    return 0
