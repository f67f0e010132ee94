"""Where a webhook may lead: the public internet by https, and what an administrator allows.

A webhook is a request that somebody else makes this service send, from inside its network: an
address that is not known to be public is refused, however it is written.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from service.errors import InvalidDocumentError, ModelwatchSetupError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_URL = 2000
PORTS = {"http": 80, "https": 443}
_MOST_PORTS = 65535

# What this does not match is no URL, whatever other readers would make of it: no user name, no
# blank, no backslash, no fragment, nothing beyond ASCII.
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\]"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<target>/[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]*)?",
    re.IGNORECASE,
)
_ENTRY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}|\*))?")
# A last part of digits makes some readers, and the resolver, take the whole for an IPv4 address.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# The special-purpose registries of IANA, and Azure's host service, whose address looks public.
_NOT_PUBLIC = _networks(
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    "168.63.129.16/32",
    *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# What keys and tokens of machines are read from, and what is no one address.  Allowing a name does
# not reach here, for who answers for the name is not who allowed it.
_ONLY_BY_NUMBER = _networks(
    *("0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "224.0.0.0/4"),
    *("240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128"),
)


class ForbiddenAddressError(InvalidDocumentError):
    """The address is not one that webhooks may be sent to."""

    code = "forbidden-address"
    title = "Forbidden address"

    def __init__(self) -> None:
        super().__init__(
            "url: webhooks go to public addresses by https on port 443; an administrator allows"
            " others in MODELWATCH_WEBHOOK_ALLOW"
        )


@dataclass(frozen=True, slots=True)
class Destination:
    """The parts of a webhook's URL; ``target`` is its path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return host and port as a URL and a Host header have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """Return the URL without the values of its query, which can be tokens."""
        path, _, query = self.target.partition("?")
        names = [part.partition("=")[0] for part in query.split("&")] if query else []
        masked = "?" + "&".join(f"{name}=…" for name in names) if names else ""
        return f"{self.scheme}://{self.authority}{path}{masked}"


def read_url(url: str) -> Destination:
    """Take a URL apart.

    Raises
    ------
    ValueError
        If it is not one that has a single reading.
    """
    found = _URL.fullmatch(url) if len(url) <= LONGEST_URL else None
    if found is None:
        message = (
            "must be an http or https URL of ASCII characters, without user name and fragment; "
            "write others percent-encoded"
        )
        raise ValueError(message)
    scheme, host = found["scheme"].lower(), found["host"].strip("[]").lower()
    port = int(found["port"] or PORTS[scheme])
    if not 1 <= port <= _MOST_PORTS:
        message = "its port is out of range"
        raise ValueError(message)
    if (found["host"].startswith("[") or _NUMERIC.fullmatch(host)) and _literal(host) is None:
        message = "its address must be written in its usual form"
        raise ValueError(message)
    return Destination(scheme, host, port, found["target"] or "/")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One exception: a name or a network, at one port or at any."""

    host: str
    network: Network | None
    port: int | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be reached beside the public internet; by default nothing."""

    entries: tuple[_Entry, ...] = ()

    @classmethod
    def read(cls, text: str) -> "Allowed":
        """Read ``host``, ``address`` or ``network``, each with ``:port`` or without, by commas.

        Raises
        ------
        ModelwatchSetupError
            If an entry is none of these.
        """
        return cls(tuple(_entry(part.strip()) for part in text.split(",") if part.strip()))

    def require(self, destination: Destination, addresses: Sequence[Address]) -> None:
        """Raise ``ForbiddenAddressError`` unless every one of the name's addresses is permitted.

        One inner address among outer ones is how a name is turned inward between two look-ups.
        """
        if not addresses or not all(self._permits(destination, at) for at in addresses):
            raise ForbiddenAddressError

    def _permits(self, destination: Destination, address: Address) -> bool:
        plain = _unwrapped(address)
        for entry in self.entries:
            if entry.port not in (None, destination.port):
                continue
            if entry.network is not None and plain in entry.network:
                return True
            if entry.host == destination.host.rstrip(".") and not _within(plain, _ONLY_BY_NUMBER):
                return True
        return (
            destination.scheme == "https"
            and destination.port == PORTS["https"]
            and (_is_public(plain))
        )


def _entry(text: str) -> _Entry:
    network = _network(text)
    if network is not None:
        return _Entry("", network, None)
    found = _ENTRY.fullmatch(text)
    host = found["host"].strip("[]").lower().rstrip(".") if found else ""
    network = _network(host)
    if found is None or (network is None and not re.fullmatch(_HOST, host)):
        message = (
            "MODELWATCH_WEBHOOK_ALLOW lists hosts, addresses and networks by commas, each with a "
            "port or without: airflow.internal:8080, 10.2.0.0/16, [fd00::/8]:443"
        )
        raise ModelwatchSetupError(message)
    port = None if found["port"] in (None, "*") else int(found["port"])
    return _Entry("" if network is not None else host, network, port)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address is only a cover of."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return not _within(address, _NOT_PUBLIC)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
