"""A signal is seen whenever it comes, even between two instructions of a waiting thread."""

import subprocess
import sys

# The raw signal stands in for one that comes after the interpreter last looked for signals and
# before the wait begins: its Python handler would run after the wait only.
_WAITS = """
import select, signal
from service.processes.stopping import SignalPipe

pipe = SignalPipe(signal.SIGCHLD)
for signum in (signal.SIGTERM, signal.SIGCHLD):
    # The Python handler is never reached in time.
    signal.signal(signum, lambda *_: None)

signal.raise_signal(signal.SIGCHLD)
assert select.select([pipe.reading], [], [], 5)[0], "no wake"
assert not pipe.drain()
signal.raise_signal(signal.SIGTERM)
assert select.select([pipe.reading], [], [], 5)[0], "no signal"
assert pipe.drain()
print("seen")
"""


def test_a_signal_reaches_the_pipe_without_a_python_handler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WAITS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "seen\n", done.stderr
