"""What a monitor is told once: its sample, its limits, what it redacts, its mode, its server."""

import inspect
import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelwatch
from modelwatch import LostRecordsError, Monitor
from modelwatch.sampling import is_sampled
from tests.contract.scripted import ScriptedServer, a_monitor, until
from tests.contract.test_client_logging import HostileError

CLIENT = str(Path(modelwatch.__file__).parents[1])


def test_a_sample_is_the_same_in_every_process_and_a_smaller_one_is_part_of_it() -> None:
    ids = [f"prediction-{row}" for row in range(2_000)]
    tenth, half = ({each for each in ids if is_sampled(each, rate)} for rate in (0.1, 0.5))
    code = (
        "from modelwatch.sampling import is_sampled\n"
        "print(*[i for i in range(2000) if is_sampled(f'prediction-{i}', 0.1)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": CLIENT, "PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {f"prediction-{row}" for row in done.stdout.split()} == tenth
    assert tenth < half
    # Five standard deviations: which ids there are is fixed.
    assert 130 < len(tenth) < 270
    assert 890 < len(half) < 1_110


def test_a_sampled_row_weighs_as_much_as_those_that_were_left_out() -> None:
    monitor = Monitor("loans", "7", mode="memory", sample=0.25)
    for row in range(400):
        monitor.log({"x": row}, 0, prediction_id=f"p{row}", weight=None if row % 2 else 3.0)
    kept = monitor.records
    stats = monitor.stats()
    assert stats["logged"] == 400 == stats["unsampled"] + len(kept)
    assert {record["weight"] for record in kept} == {4.0, 12.0}
    assert [r["prediction_id"] for r in kept] == [
        f"p{row}" for row in range(400) if is_sampled(f"p{row}", 0.25)
    ]


def test_labels_are_never_sampled_away() -> None:
    # The rate may have been another when the prediction was logged.
    monitor = Monitor("loans", "7", mode="memory", sample=1e-9)
    made = monitor.log({"x": 1}, 0)
    monitor.label(made, 1)
    assert [record.get("label") for record in monitor.records] == [1]


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_none_is_told_at_once(rate: float) -> None:
    with pytest.raises(ValueError, match="sample is a rate"):
        Monitor("loans", "7", sample=rate)


@pytest.mark.parametrize("name", ["max_rows", "max_bytes", "batch", "interval"])
def test_a_limit_that_would_keep_all_records_back_is_told_at_once(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number above 0"):
        Monitor("loans", "7", **{name: 0})  # type: ignore[arg-type]  # any of them


def test_every_option_count_and_variable_is_in_the_readme() -> None:
    page = (Path(__file__).parents[2] / "client" / "README.md").read_text()
    options = set(inspect.signature(Monitor).parameters) - {"model", "version"}
    counts = set(Monitor("loans", "7").stats())
    sources = "".join(path.read_text() for path in Path(modelwatch.__file__).parent.glob("*.py"))
    variables = set(re.findall(r"\bMODELWATCH_[A-Z_]+", sources))
    assert variables >= {"MODELWATCH_URL", "MODELWATCH_SAMPLE", "MODELWATCH_SPOOL"}
    for name in options | counts | variables:
        assert f"`{name}`" in page, name


def test_what_is_redacted_is_seen_neither_by_the_server_nor_by_the_caller_s_thread(
    server: ScriptedServer,
) -> None:
    threads = []

    def redact(record: dict[str, Any]) -> dict[str, Any]:
        threads.append(threading.current_thread())
        record["features"].pop("email")
        record["subject"] = "x"
        return record

    monitor = a_monitor(server, redact=redact)
    features = {"email": "ada@example.org", "income": 1}
    monitor.label(monitor.log(features, 0, subject="ada"), 1)
    assert monitor.flush(60)
    sent = json.dumps(server.records())
    assert "ada" not in sent
    assert server.records()[0]["features"] == {"income": 1}
    assert features == {"email": "ada@example.org", "income": 1}
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("mistake", ["raises", "forgets", "hostile"])
def test_what_could_not_be_redacted_is_lost_and_never_sent(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, mistake: str
) -> None:
    def redact(record: dict[str, Any]) -> Any:
        if record["features"].get("email") is None:
            return record
        if mistake == "raises":
            raise ValueError(record["features"]["email"])
        if mistake == "hostile":
            raise HostileError
        return None

    monitor = a_monitor(server, redact=redact)
    monitor.log({"email": "ada@example.org"}, 0)
    monitor.log({"income": 1}, 0)
    with (
        caplog.at_level(logging.WARNING, "modelwatch"),
        pytest.raises(LostRecordsError, match="1 not sent: `redact` failed") as lost,
    ):
        monitor.flush(10)
    assert lost.value.counts == {"unredacted": 1}
    assert [record["features"] for record in server.records()] == [{"income": 1}]
    assert "ada@example.org" not in caplog.text + str(lost.value)


def test_the_mode_memory_shows_what_would_have_been_sent() -> None:
    threads = threading.active_count()
    monitor = Monitor("loans", "7", mode="memory", redact=lambda r: {**r, "subject": "x"})
    made = monitor.log({"x": np.float32(0.5)}, 1, ts=1.5, subject="ada", durable=True)
    monitor.label(made, 0, label_ts=2.5)
    assert monitor.flush()
    assert monitor.records == [
        {
            "model": "loans", "version": "7", "prediction_id": made,
            "ts": "1970-01-01T00:00:01.500000Z", "features": {"x": 0.5}, "prediction": 1,
            "subject": "x",
        },
        {"model": "loans", "prediction_id": made, "label": 0,
         "label_ts": "1970-01-01T00:00:02.500000Z"},
    ]  # fmt: skip
    assert threading.active_count() == threads


def test_the_environment_says_what_the_arguments_leave_open(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWATCH_URL", server.url)
    monkeypatch.setenv("MODELWATCH_API_KEY", "mw_of_the_environment")
    Monitor("loans", "7", interval=0.01).log({"x": 1}, 0)
    monitor = Monitor("loans", "7", interval=0.01, api_key="mw_given")
    monitor.log({"x": 1}, 0)
    assert monitor.flush(60)
    until(lambda: len(server.headers) >= 2)
    assert sorted(head["Authorization"] for head in server.headers) == [
        "Bearer mw_given", "Bearer mw_of_the_environment",
    ]  # fmt: skip
    monkeypatch.setenv("MODELWATCH_MODE", "memory")
    monkeypatch.setenv("MODELWATCH_SAMPLE", "1e-9")
    monitor = Monitor("loans", "7")
    monitor.log({"x": 1}, 0)
    assert monitor.stats()["unsampled"] == 1
    monkeypatch.setenv("MODELWATCH_MODE", "loud")
    with pytest.raises(ValueError, match="mode is one of"):
        Monitor("loans", "7")
