"""The demo: a loan model's month replayed over HTTP, and what the service makes of it."""

import contextlib
import io
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from service.clock import now
from service.errors import ModelwatchSetupError
from service.processes import generator
from service.processes.demo_screen import Screen
from service.processes.generator import LoanRows
from service.processes.sender import Sender

MODEL: Final = "demo-loans"
VERSION: Final = "1"
PATIENCE_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.1
WHERE_SECONDS: Final = 2.0
_MONTH_ENDS: Final = "the month ends "

_LABEL_DELAY: Final = np.timedelta64(generator.LABEL_DELAY, "us")
_VERSION_DOCUMENT: Final = {
    "features": list(generator.SCHEMA),
    "classes": ["0", "1"],
    "positive_class": "1",
}
_MONITOR_DOCUMENT: Final = {"model": MODEL, "window": "1d", "every": "1d", "bucket": "1h"}


def run_child(message: Mapping[str, Any], stop: threading.Event) -> int:
    """Run as a child of ``up``, until the request is shown."""
    screen = Screen()
    with Sender(message["url"], key=message["key"], trust_env=False) as sender:
        try:
            Demo(sender, screen, stop).run()
        except ModelwatchSetupError as fault:
            if not stop.is_set():
                screen.say(f"The demo stopped: {fault}")
                return 1
    return 0


class Demo:
    """Registers and replays the month unless that was done before, then watches."""

    def __init__(self, sender: Sender, screen: Screen, stop: threading.Event) -> None:
        self._sender = sender
        self._screen = screen
        self._stop = stop

    def run(self) -> None:
        """Replay what is missing, and watch until a request is open."""
        recorded = self._recorded_end()
        end = recorded or now().replace(hour=0, minute=0, second=0, microsecond=0)
        if recorded is not None and self._first_request() is not None:
            self._screen.say(f"The data of an earlier demo of {MODEL} is still here.")
        else:
            self._replay(end)
        if not self._stop.is_set():
            self._watch(InOrder(generator.month_start(end), generator.DAYS))

    def _recorded_end(self) -> datetime | None:
        """Return where an earlier demo's month ends: the same month gives the same ids."""
        model = self._sender.get(f"/v1/models/{MODEL}")
        if model is None:
            return None
        _, found, day = str(model.get("description", "")).partition(_MONTH_ENDS)
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(day).replace(tzinfo=UTC) if found else None
        return None

    def _replay(self, end: datetime) -> None:
        start = generator.month_start(end)
        self._register(start, end)
        began = time.monotonic()
        sent = labelled = 0
        month: list[LoanRows] = []
        for day in range(generator.DAYS):
            if self._stop.is_set():
                return
            month.append(generator.day_rows(start, day))
            sent += self._send_predictions(month[day])
            if day >= generator.LABEL_DELAY.days:
                labelled += self._send_labels(month[day - generator.LABEL_DELAY.days])
            self._screen.progress(day + 1, generator.DAYS)
        self._screen.say(
            f"Replayed {generator.DAYS} days in {time.monotonic() - began:.1f} s: {sent:,}"
            f" predictions, and the {labelled:,} labels that were known by {end:%Y-%m-%d}."
        )

    def _register(self, start: datetime, end: datetime) -> None:
        root = f"/v1/models/{MODEL}"
        description = f"Will the loan be repaid? A synthetic month; {_MONTH_ENDS}{end:%Y-%m-%d}"
        model = {"task": "binary", "owner": "demo", "description": description}
        self._sender.send("PUT", root, model)
        self._sender.send("PUT", f"{root}/versions/{VERSION}", _VERSION_DOCUMENT)
        self._sender.send("PUT", f"{root}/monitor", _MONITOR_DOCUMENT)
        reference = generator.reference_rows(start)
        answer = self._sender.send_bytes(
            "PUT",
            f"{root}/versions/{VERSION}/reference",
            as_parquet(reference),
            "application/vnd.apache.parquet",
        )
        self._screen.say(
            f"Registered {MODEL} {VERSION} with a reference of {answer['rows']:,} labelled rows."
        )

    def _send_predictions(self, rows: LoanRows) -> int:
        envelope = {"model": MODEL, "version": VERSION, "records": prediction_records(rows)}
        answer = self._sender.send("POST", "/v1/predictions", envelope)
        return int(answer["accepted"]) + int(answer["duplicates"])

    def _send_labels(self, rows: LoanRows) -> int:
        envelope = {"model": MODEL, "records": label_records(rows)}
        answer = self._sender.send("POST", "/v1/labels", envelope)
        return int(answer["accepted"]) + int(answer["duplicates"])

    def _first_request(self) -> dict[str, Any] | None:
        found = self._sender.get("/v1/retraining-requests", model=MODEL)["requests"]
        live = [request for request in found if request["state"] == "open"]
        return live[0] if live else None

    def _watch(self, order: "InOrder") -> None:
        """Show each window as it is judged, until the first request is open."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            request = self._first_request()
            # Read after the request, so that the window that opened it is shown above it.
            listed = self._sender.get(f"/v1/models/{MODEL}/windows", version=VERSION)
            order.add(listed["windows"] if listed else ())
            for window in order.ready() if request is None else order.rest():
                self._screen.window(window)
            if request is not None:
                self._show_again(order.changed())
                self._screen.request(request, self._sender.url)
                self._tell_where(request)
                return
            if self._stop.wait(POLL_SECONDS):
                return
        message = f"no retraining request opened within {PATIENCE_SECONDS:.0f} s"
        raise ModelwatchSetupError(message)

    def _tell_where(self, request: Mapping[str, Any]) -> None:
        """Show where the loss is once that was found in rows, which comes after the request."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        path, said = f"/v1/retraining-requests/{request['id']}", str(request["reason"])
        while time.monotonic() < deadline and not self._stop.wait(WHERE_SECONDS):
            reason = str(self._sender.get(path)["reason"])
            if reason.startswith(f"{said}; "):
                self._screen.say(f"Where the loss is: {reason.removeprefix(f'{said}; ')}")
                return

    def _show_again(self, windows: Sequence[Mapping[str, Any]]) -> None:
        if windows:
            self._screen.say("Judged again meanwhile, as labels came:")
        for window in windows:
            self._screen.window(window)


class InOrder:
    """Windows of a day each in order of their start, though they are judged in any order."""

    def __init__(self, start: datetime, days: int) -> None:
        self._awaited = [start + timedelta(days=day) for day in range(days)]
        self._known: dict[datetime, Mapping[str, Any]] = {}
        self._shown: dict[datetime, Mapping[str, Any]] = {}

    def add(self, windows: Iterable[Mapping[str, Any]]) -> None:
        """Take what is judged by now."""
        self._known.update((datetime.fromisoformat(each["start"]), each) for each in windows)

    def ready(self) -> list[Mapping[str, Any]]:
        """Return the windows before which none is missing any more, each of them once."""
        found = []
        while self._awaited and self._awaited[0] in self._known:
            found.append(self._take(self._awaited.pop(0)))
        return found

    def rest(self) -> list[Mapping[str, Any]]:
        """Return all that was not returned before, whatever is missing between them."""
        self._awaited.clear()
        return [self._take(start) for start in sorted(self._known.keys() - self._shown.keys())]

    def changed(self) -> list[Mapping[str, Any]]:
        """Return the windows that were judged otherwise after they had been returned."""
        return [
            self._take(start)
            for start, shown in sorted(self._shown.items())
            if any(shown[part] != self._known[start][part] for part in ("verdicts", "action"))
        ]

    def _take(self, start: datetime) -> Mapping[str, Any]:
        window = self._shown[start] = self._known[start]
        return window


def as_parquet(rows: LoanRows) -> bytes:
    """Return labelled rows as the Parquet file of a reference."""
    table = pa.table(
        {
            "ts": pa.array(rows.ts, pa.timestamp("us", "UTC")),
            **rows.features,
            "prediction": rows.prediction,
            "score": rows.score,
            "label": rows.label,
        }
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def prediction_records(rows: LoanRows) -> list[dict[str, Any]]:
    """Return rows as records of ``POST /v1/predictions``."""
    names = list(rows.features)
    columns = [rows.features[name].tolist() for name in names]
    return [
        {
            "prediction_id": one,
            "ts": f"{ts}Z",
            "features": dict(zip(names, values, strict=True)),
            "prediction": prediction,
            "score": score,
        }
        for one, ts, values, prediction, score in zip(
            rows.ids,
            np.datetime_as_string(rows.ts),
            zip(*columns, strict=True),
            rows.prediction.tolist(),
            rows.score.tolist(),
            strict=True,
        )
    ]


def label_records(rows: LoanRows) -> list[dict[str, Any]]:
    """Return rows as records of ``POST /v1/labels``."""
    known = np.datetime_as_string((rows.ts + _LABEL_DELAY).astype("datetime64[us]"))
    return [
        {"prediction_id": one, "label": label, "label_ts": f"{ts}Z"}
        for one, label, ts in zip(rows.ids, rows.label.tolist(), known, strict=True)
    ]
