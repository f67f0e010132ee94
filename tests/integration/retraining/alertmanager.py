"""What Alertmanager says, by its webhook and when it is asked."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.retraining.alertmanager import EXAMPLE
from service.retraining.polling import ASKED
from tests.clients import TestClient

Sessions = sessionmaker[Session]
START = "2025-11-21T08:15:00.123456789Z"
LATER = "2025-11-21T09:00:00Z"
NEVER = "0001-01-01T00:00:00Z"


def an_alert(number: int = 1, **overrides: Any) -> dict[str, Any]:
    firing = overrides.get("status", "firing") == "firing"
    labels = {"alertname": "Ours", "model": "loans", "model_version": "7", "action": "retrain"}
    return {
        "status": "firing",
        "labels": labels | overrides.pop("labels", {}),
        "annotations": {"summary": "too many are rejected"},
        "startsAt": START,
        "endsAt": NEVER if firing else LATER,
        "fingerprint": f"{number:016x}",
        **overrides,
    }


def notification(*alerts: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    return {**EXAMPLE, "alerts": list(alerts), **overrides}


def tell(client: TestClient, *alerts: dict[str, Any]) -> list[tuple[str, int | None]]:
    answer = client.post("/v1/alertmanager", json=notification(*alerts))
    assert answer.status_code == 200, answer.text
    return [(told["outcome"], told["request"]) for told in answer.json()["alerts"]]


def requests(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/retraining-requests").json()["requests"]
    return found


def count(sessions: Sessions, table: type) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def close(client: TestClient, request: int) -> None:
    answer = client.post(f"/v1/retraining-requests/{request}/dismiss", json={"by": "ana"})
    assert answer.status_code == 200


def without_cooldown(sessions: Sessions) -> None:
    document = {"model": "loans", "retraining": {"cooldown": "0s"}}
    with sessions.begin() as session:
        put_monitor(session, "loans", MonitorDocument.model_validate(document))


def opened_by(client: TestClient) -> list[str]:
    """Return who has opened requests, by the audit log."""
    entries = client.get("/v1/audit").json()["entries"]
    return [one["actor"] for one in entries if one["action"] == "retraining-request.open"]


def as_polled(alert: dict[str, Any], state: str = "active") -> dict[str, Any]:
    return {**alert, "status": {"state": state, "silencedBy": [], "inhibitedBy": []}}


class Alertmanager:
    """Answers ``GET /api/v2/alerts`` as it is told to."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.asked: list[dict[str, str]] = []
        self.before_it_answers: Callable[[], object] = lambda: None
        self.gone = threading.Event()
        self.say([])
        alertmanager = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                alertmanager.asked.append({k.lower(): v for k, v in self.headers.items()})
                with contextlib.suppress(OSError):
                    assert alertmanager.answer is not None
                    alertmanager.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def say(self, found: Any, **headers: str) -> None:
        """Answer this from now on."""
        body = found if isinstance(found, bytes) else orjson.dumps(found)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            self.before_it_answers()
            handler.send_response(200 if handler.path == ASKED else 404)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer

    def drip(self, *first: bytes, drop: bytes) -> None:
        """Answer a drop at a time, and never come to an end."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            for piece in first:
                handler.wfile.write(piece)
            while not self.gone.wait(0.05):
                handler.wfile.write(drop)
            handler.close_connection = True

        self.answer = answer

    def close(self) -> None:
        self.gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
