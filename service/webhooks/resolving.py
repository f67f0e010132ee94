"""Asking for the addresses of a name, with an end to the patience."""

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from service.webhooks.addresses import Address, Allowed, Destination

Resolve = Callable[[str, int], Sequence[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """Return all addresses of a name, in the order in which they should be tried."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(sockaddr[0])) for *_, sockaddr in found))


def resolve_within(resolve: Resolve, host: str, port: int, seconds: float) -> Sequence[Address]:
    """Resolve a name, but for no longer than that: the system's resolver knows no deadline.

    Raises
    ------
    OSError
        If the name has no address, or not in time.
    """
    answers: queue.SimpleQueue[Sequence[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host, port))
        # A name can be no name at all: too long a part is a UnicodeError, which is a ValueError.
        except (OSError, ValueError) as error:
            answers.put(OSError(str(error)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def require_permitted(destination: Destination, allowed: Allowed, seconds: float) -> None:
    """Raise ``ForbiddenAddressError`` if a webhook may not lead there by what is known now.

    A name that has no address now may have one later: every delivery judges it again.
    """
    try:
        addresses = resolve_within(resolve, destination.host, destination.port, seconds)
    except OSError:
        return
    allowed.require(destination, addresses)
