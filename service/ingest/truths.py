"""SageMaker's ground truth on the route of labels: recognised by its shape."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec

from service.formats.sagemaker import TRUTH, read_truth
from service.formats.trouble import PayloadError
from service.ingest.decode import Record
from service.ingest.intake import Sent

_encode = msgspec.json.Encoder().encode


def read_truths(sent: Sent, query: Mapping[str, str]) -> Sent:
    """Return lines of ground truth as labels; anything else stays what it is.

    Such a line says nothing of its time: ``label_ts`` of the query is that of all.
    """
    if not sent.lines or not any(TRUTH in bytes(line) for line in sent.records):
        return sent
    records = [record for line in sent.records for record in _labels(line, query.get("label_ts"))]
    return replace(sent, records=records)


def _labels(line: Record, label_ts: str | None) -> Iterator[Record]:
    try:
        found = read_truth(bytes(line)) if TRUTH in bytes(line) else None
    except PayloadError:
        found = None
    if found is None:
        yield line
        return
    yield from (label_record(name, label, label_ts) for name, label in found)


def label_record(name: str, label: object, label_ts: str | None) -> bytes:
    """Return a label's record."""
    said = {"prediction_id": name, "label": label}
    return _encode(said if label_ts is None else {**said, "label_ts": label_ts})
