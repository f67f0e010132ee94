"""The socket that the API listens on, opened before anything else is started."""

import errno
import socket

from service.errors import ModelwatchSetupError

_REASONS = {
    errno.EADDRINUSE: "the port is taken; choose another with --port",
    errno.EACCES: "this user may not open the port; choose one above 1023 with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another with --host",
}


def open_listener(host: str, port: int) -> socket.socket:
    """Bind ``host:port`` (0 = any free port), or say in one line why it cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as fault:
        message = f"cannot listen on {host}: {fault.strerror}; choose another address with --host"
        raise ModelwatchSetupError(message) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Bound ports can be shared by two sockets until one of them listens.
        listener.listen(2048)
    except OSError as fault:
        listener.close()
        reason = _REASONS.get(fault.errno or 0, fault.strerror)
        message = f"cannot listen on {host}:{port}: {reason}"
        raise ModelwatchSetupError(message) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address at which a client on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
