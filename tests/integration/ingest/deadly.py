"""A reader of streams that some streams end; it imports little, for somebody waits for it."""

import os
import signal

from service.ingest.arrow_streams import parse


def parse_or_die(request: bytes) -> bytes:
    """Read a stream, unless its rows say how to die."""
    if b"abort" in request:
        os.abort()
    if b"killed" in request:
        os.kill(os.getpid(), signal.SIGKILL)
    return parse(request)
