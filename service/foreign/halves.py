"""Events to halves of a row, and two halves to its records.  Nothing here waits for anything."""

import hashlib
import random
from dataclasses import dataclass
from typing import Any

import msgspec

from service.foreign.targets import Options, Target
from service.formats.events import Event
from service.formats.features import name_features
from service.formats.outputs import read_output
from service.formats.payloads import read_inputs, read_outputs
from service.formats.sagemaker import Capture, row_ids
from service.formats.trouble import PayloadError, Trouble
from service.ingest.times import Horizon
from service.registry.privacy import SUBJECT, Pseudonyms, treat_record
from service.registry.values import VersionSpec

_PAIR_BYTES = 16
_HASH_BYTES = 8
_TOKEN_BITS = 62
_encode = msgspec.json.Encoder().encode
_tokens = random.Random()  # noqa: S311  they tell deliveries apart, and are no secrets

Key = tuple[int, bytes]
"""A model's id and the digest of source and correlation."""


class Content(msgspec.Struct, gc=False):
    """What is kept of a half: a row's features or outputs for each of its rows."""

    ts: str
    rows: list[dict[str, Any]]


_content = msgspec.json.Decoder(Content)


@dataclass(slots=True)
class Half:
    """One half on its way into the table; ``result`` is what became of it.

    Of an event that is ``whole`` the other half comes with it.
    """

    index: int
    key: Key
    model: str
    version: str
    correlation: str
    subject: str | None
    side: str
    whole: bool
    content: bytes
    digest: int
    token: int
    rows: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class Reader:
    """How the events of a request are read, and what of them may be kept."""

    options: Options
    horizon: Horizon
    pseudonyms: Pseudonyms | None


def read_halves(event: Event, target: Target, reader: Reader, index: int) -> list[Half]:
    """Return the half that an event is, or both, or raise why it is none.

    A half waits in the database: what is personal in it is treated here.  That it is treated
    again when it becomes a row changes nothing.
    """
    reader.horizon.parse(event.time, "time")
    if event.side == "request":
        asked = name_features(read_inputs(event.payload, target.kinds), target.kinds)
        return [_half(event, target, reader, index, "request", asked)]
    outputs = read_outputs(event.payload)
    found: list[Half] = []
    if event.side == "both":
        # What is no feature is an output, or is called like none and costs the event.
        asked = [{k: v for k, v in row.items() if k in target.kinds} for row in outputs]
        outputs = [{k: v for k, v in row.items() if k not in target.kinds} for row in outputs]
        found.append(
            _half(event, target, reader, index, "request", name_features(asked, target.kinds))
        )
    mapping = reader.options.mapping
    answered = [read_output(row, mapping, target.task) for row in outputs]
    return [*found, _half(event, target, reader, index, "response", answered)]


def _half(
    event: Event, target: Target, reader: Reader, index: int, side: str, rows: list[Any]
) -> Half:
    subject = event.subject
    if subject is not None and reader.pseudonyms is not None:
        subject = reader.pseudonyms.of(SUBJECT, subject)
    if side == "request" and target.spec is not None:
        rows = [_treated(row, target.spec, reader.pseudonyms) for row in rows]
    content = _encode(Content(event.time, rows))
    digest = hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()
    named = f"{event.source}\n{event.correlation}".encode()
    return Half(
        index=index,
        key=(target.model_id, hashlib.blake2b(named, digest_size=_PAIR_BYTES).digest()),
        model=target.model,
        version=target.version,
        correlation=event.correlation,
        subject=subject,
        side=side,
        whole=event.side == "both",
        content=content,
        digest=int.from_bytes(digest, signed=True),
        token=_tokens.getrandbits(_TOKEN_BITS),
        rows=len(rows),
    )


def _treated(row: Any, spec: VersionSpec, pseudonyms: Pseudonyms | None) -> Any:
    return treat_record({"features": row}, spec, pseudonyms)["features"]


def pair_records(
    *,
    model: str,
    version: str,
    correlation: str,
    subject: str | None,
    request: bytes | None,
    response: bytes,
) -> list[bytes]:
    """Return the records of an inference; without its request they have no features."""
    asked = None if request is None else _content.decode(request)
    answered = _content.decode(response)
    features: list[dict[str, Any] | None] = [None] * len(answered.rows)
    if asked is not None:
        if len(asked.rows) != len(answered.rows):
            message = "request and response have different numbers of rows"
            raise PayloadError(Trouble.BAD_SHAPE, "data", message)
        features = list(asked.rows)
    ids = row_ids(correlation, len(answered.rows))
    ts = answered.ts if asked is None else asked.ts
    common = {"model": model, "version": version, "ts": ts}
    if subject is not None:
        common["subject"] = subject
    return [
        _encode({**common, "prediction_id": name, "features": given, **output})
        for name, given, output in zip(ids, features, answered.rows, strict=True)
    ]


def capture_records(capture: Capture, target: Target, options: Options) -> list[bytes]:
    """Return the records of one captured invocation."""
    features: list[Any] = [None] * len(capture.outputs)
    if capture.inputs:
        features = name_features(capture.inputs, target.kinds, texts=capture.texts)
    common = {"model": target.model, "version": target.version, "ts": capture.time}
    outputs = [read_output(row, options.mapping, target.task) for row in capture.outputs]
    return [
        _encode({**common, "prediction_id": name, "features": given, **output})
        for name, given, output in zip(
            row_ids(capture.id, len(outputs)), features, outputs, strict=True
        )
    ]
