"""Connections to addresses that are known, and to nothing else, which end at a deadline."""

import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from service.webhooks.addresses import Address

_PIECE = 16 << 10


class Pinned(httpcore.NetworkBackend):
    """Connects to the permitted addresses and to nothing else, whatever name is asked for."""

    def __init__(self, addresses: Sequence[Address], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  the addresses are of this name
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline holds
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers."""
        failure: Exception = httpcore.ConnectError()
        for position, address in enumerate(self._addresses):
            # An address that is silent leaves time for the others.
            share = _left(self._deadline) / (len(self._addresses) - position)
            try:
                stream = self._network.connect_tcp(
                    str(address), port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Timed(stream, self._deadline)
        raise failure


class _Timed(httpcore.NetworkStream):
    """A stream whose reads and writes end together: a drop at a time gains a target nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline holds
    ) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002  the deadline holds
    ) -> None:
        # The backend's timeout is of each piece that the system takes.
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002  the deadline holds
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left
