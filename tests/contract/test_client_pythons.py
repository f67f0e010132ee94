"""The client runs on every Python that it promises."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.scripted import ScriptedServer

CLIENT = Path(__file__).parents[2] / "client"
EVERYTHING = """
import asyncio, contextlib, sys
import modelwatch, modelwatch.asgi, modelwatch.spool_command

url, spool = sys.argv[1:]
monitor = modelwatch.Monitor("loans", "7", url=url, interval=0.01, redact=dict)
kept = modelwatch.Monitor("loans", "7", url=url, interval=0.01, spool=spool)
label_of = kept.log({"income": 1.5}, 1, score=0.5, durable=True)

@monitor.watch
async def watched(income):
    return 1

class Model:
    def predict(self, rows):
        return [0 for _ in rows]

async def app(scope, receive, send):
    await watched(2.5)
    await send({"type": "http.response.start", "status": 200})

async def answer(message):
    assert (b"x-prediction-id", b"order-17") in message["headers"]

scope = {"type": "http", "headers": [(b"x-prediction-id", b"order-17")]}
asyncio.run(modelwatch.asgi.PredictionIdMiddleware(app)(scope, None, answer))
monitor.wrap(Model(), features=["income"]).predict([[3.5]])
monitor.log_frame({"prediction": [1], "income": [4.5], "ts": ["2026-11-20T10:00:00Z"]})
monitor.label(label_of, 1)
assert monitor.flush(60) and kept.flush(60)
print(sorted(monitor.stats().items()))
"""


def interpreter(minor: int) -> str | None:
    """Return a Python of this machine, whether it is on the path or pyenv keeps it."""
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    of_pyenv = sorted(map(str, kept.glob(f"3.{minor}.*/bin/python")))
    for path in [shutil.which(f"python3.{minor}"), *of_pyenv]:
        if (
            path
            and not subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode
        ):
            return path
    return None


@pytest.mark.parametrize("minor", [9, 13])
def test_all_of_it_works_on_the_oldest_and_the_newest_python(
    minor: int, server: ScriptedServer, tmp_path: Path
) -> None:
    python = interpreter(minor)
    if python is None:
        pytest.skip(f"there is no Python 3.{minor} here")
    done = subprocess.run(
        [python, "-W", "error", "-c", EVERYTHING, server.url, str(tmp_path / "spool")],
        env={"PYTHONPATH": str(CLIENT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    incomes = [r["features"]["income"] for r in server.records() if "features" in r]
    assert sorted(incomes) == [1.5, 2.5, 3.5, 4.5]
    assert len(server.records()) == 5


def test_nothing_that_the_oldest_python_lacks_is_used() -> None:
    options = ("-t=3.9-", "--no-tips", "--eval-annotations", "--violations")
    code = "import vermin; vermin.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *options, str(CLIENT / "src"), str(CLIENT / "examples")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
