"""Asking Alertmanager which alerts fire, in bounded time and memory, whatever it answers."""

import base64
import time
from datetime import datetime
from http import HTTPStatus
from urllib.parse import unquote_to_bytes, urlencode

import httpcore
import orjson

from service.retraining.alertmanager import Alert, polled
from service.webhooks.addresses import read_url
from service.webhooks.connecting import Pinned
from service.webhooks.resolving import resolve, resolve_within
from service.webhooks.sending import trusted

SECONDS = 10.0
# Some 16,000 alerts.
MOST_BYTES = 32 << 20
# Of an Alertmanager that others use too, all the rest would be read and thrown away.
ASKED = "/api/v2/alerts?" + urlencode(
    [("filter", 'model=~".+"'), ("filter", 'model_version=~".+"')]
)

# What keeps an answer from coming.
NO_ANSWER = (OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


def firing_alerts(base: str, as_of: datetime, *, seconds: float = SECONDS) -> list[Alert]:
    """Return the alerts of which Alertmanager says that they fire, and that name a version.

    ``as_of`` is the database's time, before it is asked.

    Raises
    ------
    OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError
        If it does not answer, or not within ``seconds``, however it drips.
    ValueError
        If its answer is no list of alerts.
    """
    found = orjson.loads(_read(base.rstrip("/") + ASKED, seconds))
    if not isinstance(found, list):
        message = "the answer is no list"
        raise ValueError(message)  # noqa: TRY004  what came is wrong, not how it was asked for
    alerts = [polled(each, as_of) for each in found]
    return [alert for alert in alerts if alert is not None and alert.model and alert.version]


def _read(url: str, seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    scheme, rest = url.split("://", 1)
    login, _, rest = rest.rpartition("@")
    place = read_url(f"{scheme}://{rest}")
    addresses = resolve_within(resolve, place.host, place.port, seconds)
    address = httpcore.URL(
        scheme=place.scheme, host=place.host, port=place.port, target=place.target
    )
    # It is read as it was sent: nothing is inflated, and what is packed all the same is no JSON.
    headers = [("Host", place.authority), ("Accept-Encoding", "identity"), ("Connection", "close")]
    if login:
        basic = base64.b64encode(unquote_to_bytes(login)).decode()
        headers.append(("Authorization", f"Basic {basic}"))
    context = trusted() if place.scheme == "https" else None
    network = Pinned(addresses, deadline)
    body = bytearray()
    with (
        httpcore.HTTPConnection(
            address.origin, ssl_context=context, network_backend=network
        ) as connection,
        connection.stream("GET", address, headers=headers) as answer,
    ):
        if answer.status != HTTPStatus.OK:
            message = f"the answer has the status {answer.status}"
            raise ValueError(message)
        for piece in answer.iter_stream():
            body += piece
            if len(body) > MOST_BYTES:
                message = "the answer is too long"
                raise ValueError(message)
    return bytes(body)
