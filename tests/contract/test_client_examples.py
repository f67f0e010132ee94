"""What the client's README tells people to paste does what it says, against the real service."""

import runpy
import sys
from asyncio import run as run_coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import modelwatch
from tests.contract.conftest import served
from tests.contract.test_readme import blocks, commands, request

CLIENT = Path(__file__).parents[2] / "client"
README = CLIENT / "README.md"
EXAMPLES = sorted((CLIENT / "examples").glob("*.py"))
APPLICATIONS = """\
application,applied_at,income,region,repaid,decided_at
1001,2026-11-01T08:00:00,12000,north,0,2026-11-09T12:00:00
1002,2026-11-01T09:30:00,41000,south,,
1003,2026-11-01T10:00:00,,south,1,2026-11-10T12:00:00
"""


@pytest.fixture(autouse=True)
def loans(api: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWATCH_URL", api)
    for name in ("MODELWATCH_API_KEY", "MODELWATCH_MODE", "MODELWATCH_SAMPLE"):
        monkeypatch.delenv(name, raising=False)
    for words in (each for block in blocks(README, "") for each in commands(block)):
        assert client.send(request(words[1:], api)).is_success


def run(name: str) -> dict[str, Any]:
    return runpy.run_path(str(CLIENT / "examples" / name))


def stored(
    client: httpx.Client, prediction_id: str, model: str = "loans"
) -> tuple[dict[str, Any], str | None]:
    found = client.get(f"/v1/models/{model}/predictions/{prediction_id}").json()
    return found["predictions"][0], found["label"]


def test_a_server_logs_what_it_answers_and_labels_it_by_the_id_of_the_answer(
    client: httpx.Client,
) -> None:
    example = run("fastapi_app.py")
    with served(example["app"]) as url, httpx.Client(base_url=url, trust_env=False) as asker:
        loan = {"income": 41_000.0, "region": "north"}
        answer = asker.post("/predict", json=loan, headers={"X-Prediction-Id": "order-17"})
        assert answer.headers["X-Prediction-Id"] == "order-17"
        other = asker.post("/predict", json={"income": 9_000.0, "region": "south"})
        assert asker.put("/outcomes/order-17", params={"repaid": False}).is_success
        assert asker.post("/predict", json={"income": "much"}).status_code == 422
    assert example["monitor"].flush(60)
    row, label = stored(client, "order-17")
    assert (row["features"], row["prediction"], label) == (loan, "1", "0")
    assert row["score"] == answer.json()["probability"]
    row, label = stored(client, other.headers["X-Prediction-Id"])
    assert (row["features"]["region"], row["prediction"], label) == ("south", "0", None)


def test_a_wrapped_model_logs_its_probabilities(client: httpx.Client) -> None:
    example = run("sklearn_model.py")
    assert example["monitor"].stats()["accepted"] == 4
    rows = [stored(client, one) for one in example["request"].prediction_ids]
    assert [row["score"] for row, _ in rows] == list(example["probabilities"])
    assert [row["features"]["income"] for row, _ in rows] == [38_000.0, 15_000.0]
    assert [label for _, label in rows] == ["1", "0"]


def test_a_job_that_runs_twice_stores_each_row_once(
    client: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "applications.csv").write_text(APPLICATIONS)
    monkeypatch.setattr(sys, "argv", ["batch_job.py", str(tmp_path / "applications.csv")])
    for _ in range(2):
        run("batch_job.py")
    assert capsys.readouterr().out.splitlines() == [
        "5 records were accepted",
        "0 records were accepted",
    ]
    row, label = stored(client, "1001")
    assert (row["ts"], row["features"], row["score"], label) == (
        "2026-11-01T08:00:00Z",
        {"income": 12_000.0, "region": "north"},
        0.24,
        "0",
    )
    row, label = stored(client, "1003")
    assert (row["features"], row["score"], label) == (
        {"income": None, "region": "south"},
        None,
        "1",
    )


def without_docstring(path: Path) -> str:
    return path.read_text().partition('"""\n\n')[2]


def test_the_readme_shows_the_examples_as_they_are() -> None:
    shown = blocks(README, "python")
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        assert without_docstring(example) in shown, f"{example.name} differs from the README's"


def snippets() -> list[str]:
    """Return what the guide shows beside the quick start and the examples."""
    guide = blocks(README, "python", until="\n## Reference\n")[1:]
    whole = {without_docstring(example) for example in EXAMPLES}
    return [block for block in guide if block not in whole]


class Signal:
    def __init__(self) -> None:
        self.receivers: list[Any] = []

    def connect(self, receiver: Any) -> Any:
        self.receivers.append(receiver)
        return receiver


def test_the_shorter_snippets_do_what_they_say(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery = ModuleType("celery.signals")
    ended = Signal()
    monkeypatch.setattr(celery, "worker_process_shutdown", ended, raising=False)
    monkeypatch.setitem(sys.modules, "celery", ModuleType("celery"))
    monkeypatch.setitem(sys.modules, "celery.signals", celery)
    monitor = modelwatch.Monitor("loans", "7")
    here: dict[str, Any] = {"monitor": monitor, "modelwatch": modelwatch}
    found = snippets()
    assert len(found) == 4
    for snippet in found:
        exec(snippet, here)
    for receiver in ended.receivers:
        receiver(sender=None)
    with modelwatch.correlate() as priced:
        assert here["price"](50.0, rooms=2) == 115_000.0
    with modelwatch.correlate() as decided:
        body = {"loan": {"income": 1.0, "region": "north"}}
        assert run_coroutine(here["decide"](body))["p"] == 0.83
    for each, rows in ((here["prices"], 1), (monitor, 3)):
        assert each.flush(60)
        assert each.stats()["accepted"] == rows
    row, _ = stored(client, priced.prediction_id, "prices")
    assert (row["features"], row["prediction"]) == ({"area": 50.0, "rooms": 2.0}, 115_000.0)
    row, _ = stored(client, decided.prediction_id)
    assert (row["features"], row["prediction"], row["score"]) == (body["loan"], "1", 0.83)
    assert here["order"].prediction_ids == ["order-17~1"]
    assert [stored(client, f"order-17{end}")[0]["prediction"] for end in ("", "~1")] == ["1", "0"]
