"""Targets on loopback for what is sent, and how a test lets itself reach them."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address

from service.webhooks.addresses import Address, Allowed
from service.webhooks.resolving import Resolve
from service.webhooks.sending import Sender, trusted

Answer = Callable[[socket.socket, bytes], None]


class Target:
    """A socket that reads each request and gives it to a function; it counts its connections."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answer = answer
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(connection):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                request = read_request(connection)
                self.requests.append(request)
                self._answer(connection, request)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def read_request(connection: socket.socket) -> bytes:
    """Read a request with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.split(b"\r\n") if b"ontent-" in line and b"ength" in line).split(
            b":"
        )[1]
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def saying(text: bytes) -> Answer:
    """Answer with exactly these bytes."""
    return lambda connection, _: connection.sendall(text)


NO_CONTENT = saying(b"HTTP/1.1 204 No Content\r\n\r\n")


@contextlib.contextmanager
def listening(
    answer: Answer = NO_CONTENT, context: ssl.SSLContext | None = None
) -> Iterator[Target]:
    target = Target(answer, context)
    try:
        yield target
    finally:
        target.close()


def resolving(*answers: str | Sequence[str]) -> tuple[Resolve, list[str]]:
    """Return a resolver that gives one answer after the other, and whom it was asked for."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> Sequence[Address]:
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [ip_address(each) for each in ([found] if isinstance(found, str) else found)]

    return resolve, asked


def sender(
    allow: str = "127.0.0.1", resolve: Resolve | None = None, seconds: float = 15.0
) -> Sender:
    """Return a sender that may reach what is allowed."""
    allowed = Allowed.read(allow)
    if resolve is None:
        return Sender(allowed, trusted(), seconds=seconds)
    return Sender(allowed, trusted(), resolve, seconds)
