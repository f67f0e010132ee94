"""CloudEvents 1.0 and 0.3 over HTTP, in binary, structured and batched mode, and as lines."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from service.formats.trouble import PayloadError, Trouble
from service.formats.values import load

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
VERSIONS = frozenset({"1.0", "0.3"})
LONGEST_SOURCE = 1_000
# A row is called after it, with its number: prediction ids have at most 128 characters.
LONGEST_CORRELATION = 122
# The names of what a service is deployed as, of whichever platform.
_ATTRIBUTE = 200
_PREFIX = "ce-"
_BINARY_MEDIA = re.compile(r"application/(octet-stream|grpc|.*protobuf)")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SIDES = {
    **dict.fromkeys(("request", "inputs", "model_inputs"), "request"),
    **dict.fromkeys(("response", "outputs", "model_outputs"), "response"),
    **dict.fromkeys(("inputs_outputs", "model_inputs_outputs"), "both"),
}
_AZURE_SOURCE = re.compile(r"/onlineEndpoints/([^/]+)(?:/deployments/([^/]+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Event:
    """One half of an inference, what was asked or what was answered; or both, in one table."""

    side: str
    source: str
    correlation: str
    time: str
    payload: Any
    service: str | None
    namespace: str | None
    endpoint: str | None
    version: str | None
    subject: str | None


def is_binary_mode(headers: Mapping[str, str]) -> bool:
    """Say whether the attributes of an event are in the headers."""
    return f"{_PREFIX}specversion" in headers


def read_binary(headers: Iterable[tuple[str, str]], media: str, body: bytes) -> Event:
    """Return the event of a request in binary mode.

    The content type of such an event is what the caller of the model has sent, which servers do
    not look at: it is looked at only where the body is no JSON.
    """
    attributes: dict[str, Any] = {}
    for name, value in headers:
        if name.startswith(_PREFIX):
            attributes[name.removeprefix(_PREFIX)] = _unescaped(value)
    try:
        payload = load(body, "data") if body else None
    except PayloadError as error:
        if error.code == Trouble.MALFORMED_PAYLOAD and _is_binary(media, body):
            raise _binary() from None
        raise
    return _event(attributes, payload)


def read_structured(document: Any) -> Event:
    """Return the event of a JSON document."""
    if not isinstance(document, dict):
        raise PayloadError(Trouble.BAD_EVENT, None, "an event is an object")
    attributes = {k: v for k, v in document.items() if k not in {"data", "data_base64"}}
    encoded = document.get("data_base64")
    data = document.get("data")
    if encoded is None and document.get("datacontentencoding") == "base64":
        encoded = data
    if encoded is not None:
        media = attributes.get("datacontenttype")
        data = _decoded(encoded, media if isinstance(media, str) else "")
    return _event(attributes, data)


def _decoded(encoded: Any, media: str) -> Any:
    try:
        content = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except (binascii.Error, ValueError):
        content = None
    if content is None:
        raise PayloadError(Trouble.BAD_EVENT, "data", "the data is not base64, as the event says")
    try:
        return load(content, "data")
    except PayloadError as error:
        if error.code == Trouble.MALFORMED_PAYLOAD and _is_binary(media, content):
            raise _binary() from None
        raise


def _is_binary(media: str, body: bytes) -> bool:
    return bool(_BINARY_MEDIA.match(media)) or b'"binary_data_size"' in body[:65_536]


def _binary() -> PayloadError:
    message = "gRPC and the binary tensor extension cannot be read; have it logged as JSON"
    return PayloadError(Trouble.BINARY_PAYLOAD, "data", message)


def _unescaped(value: str) -> str:
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return value


def _event(attributes: dict[str, Any], payload: Any) -> Event:
    version = attributes.get("specversion")
    if not isinstance(version, str) or version not in VERSIONS:
        raise PayloadError(
            Trouble.BAD_EVENT, "specversion", "an event of CloudEvents 1.0 or 0.3 is needed"
        )
    kind = _text(attributes, "type", LONGEST_SOURCE)
    side = _SIDES.get(kind.rpartition(".")[2])
    if side is None:
        message = "the event is of another type than an inference's request or response"
        raise PayloadError(Trouble.UNSUPPORTED_EVENT, "type", message)
    _text(attributes, "id", LONGEST_SOURCE)
    # Seldon and Azure have unique ids for each event, and another attribute for the pair.
    pair = next((n for n in ("requestid", "correlationid") if attributes.get(n)), "id")
    source = _text(attributes, "source", LONGEST_SOURCE)
    azure = _AZURE_SOURCE.search(source)
    service, endpoint = _optional(attributes, "inferenceservicename"), None
    if azure is not None and service is None:
        service, endpoint = azure[1], azure[2]
    if payload is None:
        message = "the event has no data; large payloads may be logged elsewhere"
        raise PayloadError(Trouble.NO_DATA, "data", message)
    return Event(
        side=side,
        source=source,
        correlation=_text(attributes, pair, LONGEST_CORRELATION),
        time=_text(attributes, "time", _ATTRIBUTE),
        payload=payload,
        service=service,
        namespace=_optional(attributes, "namespace"),
        endpoint=_optional(attributes, "endpoint") or endpoint,
        version=_optional(attributes, "modelversion"),
        subject=_optional(attributes, "subject"),
    )


def _text(attributes: dict[str, Any], name: str, longest: int) -> str:
    value = attributes.get(name)
    if value is None or value == "":
        raise PayloadError(Trouble.BAD_EVENT, name, f"the event has no {name}")
    if not isinstance(value, str) or len(value) > longest or _CONTROL.search(value):
        raise PayloadError(
            Trouble.BAD_EVENT, name, f"{name} is a text of at most {longest} printable characters"
        )
    return value


def _optional(attributes: dict[str, Any], name: str) -> str | None:
    value = attributes.get(name)
    if not isinstance(value, str) or not value or len(value) > _ATTRIBUTE or _CONTROL.search(value):
        return None
    return value
