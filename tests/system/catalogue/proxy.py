"""The proxy of docker-compose, in front of an API of a test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.system.harness import eventually, free_port

CONFIGURATION = Path(__file__).parents[3] / "haproxy" / "haproxy.cfg"
WITHOUT = "haproxy is not installed (Debian: apt-get install haproxy)"


@contextmanager
def proxied(api_port: int, log: Path) -> Iterator[int | None]:
    """Run HAProxy and give its port, or None where it is not installed."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    environment = {
        "MODELWATCH_PROXY_BIND": f"127.0.0.1:{port}",
        "MODELWATCH_PROXY_API": f"127.0.0.1:{api_port}",
    }
    with log.open("wb") as output:
        child = subprocess.Popen(
            [program, "-db", "-f", str(CONFIGURATION)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: _is_up(port), seconds=120, message=f"no proxy: {log.read_text()}")
        yield port
    finally:
        child.terminate()
        child.wait(timeout=60)


def _is_up(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=60)
    except httpx.TransportError:
        return False
    return answer.status_code == 200
