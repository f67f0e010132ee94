"""Ten times the clients: they are told to come back, and as much is stored as at the best."""

import http.client
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.conftest import sized
from tests.system.faults.load import MODEL, VERSION, prediction
from tests.system.faults.rig import Rig, rigged
from tests.system.faults.roles import Role

SECONDS = sized(default=2, full=20)
ROWS = 200
BEST, TENFOLD = 8, 80
ROOM = BEST * ROWS
GOODPUT = 0.8


def push(port: int, headers: dict[str, str], clients: int, seconds: float, report: str) -> None:
    """Send as fast as the answers come, unless told to wait; write down what was answered."""
    answers: Counter[str] = Counter()
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_push, args=(port, headers, f"{clients}-{n}", until, answers))
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Path(report).write_text(json.dumps(answers))


def _push(
    port: int, headers: dict[str, str], name: str, until: float, answers: "Counter[str]"
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    records = [{**prediction(n), "prediction_id": f"{name}-@-{n}"} for n in range(ROWS)]
    body = json.dumps({"model": MODEL, "version": VERSION, "records": records}).encode()
    number = 0
    while time.monotonic() < until:
        own = body.replace(b"@", b"%d" % number)
        connection.request("POST", "/v1/predictions", own, headers)
        answer = connection.getresponse()
        answer.read()
        wait = answer.getheader("Retry-After")
        told = answer.status == 200 or wait is not None
        answers[f"{answer.status}{'' if told else ' without Retry-After'}"] += 1
        number += 1
        time.sleep(float(wait or 0))
    connection.close()


def measure(rig: Rig, clients: int, scratch: Path) -> Counter[str]:
    """Return the answers to so many clients, who run in a process of their own."""
    report = scratch / f"report-{clients}"
    headers = {"Content-Type": "application/json", **rig.plan.headers}
    given: tuple[Any, ...] = (rig.ports[0], headers, clients, SECONDS, str(report))
    role = Role(f"push-{clients}", scratch, push, *given)
    role.start()
    while role.exit_code is None:
        time.sleep(0.05)
    assert role.exit_code == 0, role.log()
    return Counter(json.loads(report.read_text()))


def test_an_overload_is_answered_by_503_and_costs_little(tmp_path: Path) -> None:
    with rigged(tmp_path, apis=1, workers=0, settings={"max_rows_in_flight": ROOM}) as rig:
        measure(rig, 2, tmp_path)
        best = measure(rig, BEST, tmp_path)
        tenfold = measure(rig, TENFOLD, tmp_path)
    ratio = tenfold["200"] / max(1, best["200"])
    print(f"{BEST} clients: {dict(best)}; {TENFOLD}: {dict(tenfold)}; {ratio:.2f} of the best")
    assert set(best | tenfold) <= {"200", "429", "503"}
    assert tenfold["503"] > 0
    if SECONDS > 2:
        assert ratio >= GOODPUT
