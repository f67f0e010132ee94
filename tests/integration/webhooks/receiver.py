"""A webhook's target on loopback, and what it takes to be told."""

import base64
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from service.clock import now
from service.registry.documents import read
from service.settings import Settings
from service.webhooks.addresses import Allowed
from service.webhooks.delivery import Courier
from service.webhooks.schemas import WebhookDocument
from service.webhooks.sealing import key_from
from service.webhooks.sending import Sender, trusted
from service.webhooks.service import announce, put_webhook
from service.webhooks.tables import Outbox

Sessions = sessionmaker[Session]

SECRET_KEY = "k" * 40
KEY = key_from(Settings(secret_key=SecretStr(SECRET_KEY))) or b""
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


class Receiver:
    """Answers what it is told to, and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.arrived = threading.Semaphore(0)
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                receiver.arrived.release()
                receiver.hold.wait(60)
                answers = receiver.answers
                status, headers, content = answers.pop(0) if answers else (204, {}, b"")
                # The sender may be gone by now.
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook?token=hidden"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.received]

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


def add_webhook(
    sessions: Sessions, name: str, url: str = "https://hooks.example.com/", **content: Any
) -> None:
    document = read(WebhookDocument, {"url": url, "secret": SECRET, **content})
    with sessions.begin() as session:
        put_webhook(session, name, document, KEY, now())


def an_event(number: int = 1) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "/monitors/loans",
        "type": "dev.modelwatch.retrain.requested.v1",
        "subject": "loans@7",
        "time": "2026-11-20T10:00:00Z",
        "datacontenttype": "application/json",
        "data": {"model": "loans", "reason": "the model got worse"},
    }


def tell(sessions: Sessions, number: int = 1, **which: Any) -> int:
    with sessions.begin() as session:
        return announce(session, an_event(number), model="loans", **which)


def courier(sessions: Sessions, sender: Any = None, **how: Any) -> Courier:
    by = sender or Sender(Allowed.read("127.0.0.1"), trusted())
    return Courier(sessions, by, KEY, **how)


def deliver(sessions: Sessions) -> bool:
    return courier(sessions).deliver_one()


def deliveries(sessions: Sessions) -> list[Outbox]:
    with sessions() as session:
        return list(session.scalars(select(Outbox).order_by(Outbox.id)))


def make_due(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(Outbox).values(next_attempt_at=func.now()))
