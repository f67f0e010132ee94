"""HTTP as uvicorn parses it, within bounds, and with problem documents for what is no HTTP."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0
# What a client has not read yet is kept for so long, and for as long as its rest takes at that
# many bytes a second.
READ_SECONDS = 30.0
READ_RATE = 64 << 10
_AROUND = len(": \r\n")

# Upstream warns of what is no request, and of upgrades: without a key anybody could fill a disk.
_logger = logging.getLogger("uvicorn.error.connection")
_logger.setLevel(logging.ERROR)

_PROBLEMS = {
    400: ("malformed-http", "Malformed HTTP", "the request is not one of HTTP/1.1"),
    408: ("stalled-head", "Stalled head", f"the head took more than {HEAD_SECONDS:.0f} s"),
    431: ("head-too-large", "Head too large", "the head of the request is over the limit"),
}


class _Gentle:
    """The transport as a request's answer sees it."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: "BoundedProtocol") -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Hang up once the answer is written."""
        self._protocol.hang_up()


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose request heads are small and come in time; trailers are small, too.

    Upstream keeps what it has of them, and of answers, for as long as the client likes.
    """

    _in_head = True
    # Since anything was complete: bytes of a head, a trailer or what surrounds a chunk.
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _lingering = False

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self.logger = _logger
        self._gentle = _Gentle(self)
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._drop_timer()
        self._drop_read_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Keep what the client has not read, but not for ever."""
        super().pause_writing()
        patience = READ_SECONDS + self.transport.get_write_buffer_size() / READ_RATE
        self._read_timer = self.loop.call_later(patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._drop_read_timer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count what is no body."""
        room = MAX_HEAD_BYTES - self._head_bytes
        if self._in_head and len(data) > room:
            # The proxy hands on, as it came, what has no end within the limit: not one byte more
            # may be taken for a head.
            self._take(data[:room])
            if self._in_head:
                self._refuse(431)
            data = data[room:]
        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._lingering:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._is_over():
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._in_head:
            if self._head_timer is None:
                self._time_head()
        elif self.timeout_keep_alive_task is None and self._is_idle():
            # Line feeds between two requests are no request, and upstream waits for one no longer.
            self._wait_for_next()

    def on_message_begin(self) -> None:
        """Expect a head."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head; of a trailer upstream would make a header that no proxy saw."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Begin to count again."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count again."""
        self._head_bytes = 0
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Let the request begin, unless one piece brought a head that is too large."""
        self._in_head, self._head_bytes = False, 0
        self._drop_timer()
        fields = sum(len(name) + len(value) + _AROUND for name, value in self.headers)
        if fields + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(431)
            message = "the head is too large"
            raise ValueError(message)
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self._gentle)

    def hang_up(self) -> None:
        """Say nothing more; what the client still sends is heard, and forgotten, for a while.

        Otherwise the kernel resets the connection, and the answer is lost with it: a client that
        was told 413 would send the same again.
        """
        if self.cycle is None or not self.cycle.more_body or self.expect_100_continue:
            self.transport.close()
            return
        # Upstream closes what is idle after an answer.
        self._linger()

    def _linger(self) -> None:
        self._lingering = True
        self.pipeline.clear()
        self.transport.write_eof()
        self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - upstream's words
        """Answer bytes that are no request."""
        self._refuse(400)

    def _time_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408)

    def _drop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _is_over(self) -> bool:
        return self._lingering or self.transport.is_closing()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_next(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _may_answer(self) -> bool:
        """Say whether what is wrong belongs to no request, or to one whose body still comes."""
        if self._is_idle():
            return True
        cycle = self.cycle
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _refuse(self, status: int) -> None:
        """Answer with a problem, unless the answer would be taken for another's, and hang up."""
        if self._is_over():
            return
        self._drop_timer()
        if self._may_answer():
            code, title, detail = _PROBLEMS[status]
            names = {"type": f"/problems/{code}", "title": title, "status": status}
            content = orjson.dumps({**names, "detail": detail, "code": code})
            self.transport.write(
                b"%scontent-type: application/problem+json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (STATUS_LINE[status], len(content), content)
            )
            if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                # The rest of it is still to come.
                self._linger()
                self._wait_for_next()
                return
        self.transport.close()
