"""The process that measures rows outlives nobody."""

import subprocess
import sys
import textwrap

import psutil

WORKER = textwrap.dedent("""
    import os, threading, time
    from service.runs.row_stage import RowStage

    stage = RowStage.__new__(RowStage)
    stage._pool, stage._stop = None, threading.Event()
    print(stage._call(os.getpid), flush=True)
    time.sleep(3600)
""")


def test_the_process_that_measures_ends_with_a_worker_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        measuring = psutil.Process(int(worker.stdout.readline()))
        assert measuring.is_running()
        worker.kill()
    _, alive = psutil.wait_procs([measuring], timeout=60)
    assert not alive
