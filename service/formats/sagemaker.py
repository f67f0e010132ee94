"""SageMaker's captured data and its ground truth: a JSON document a line."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from service.formats.csvs import read_csv
from service.formats.events import LONGEST_CORRELATION
from service.formats.features import guess
from service.formats.payloads import UNNAMED, read_inputs, read_outputs
from service.formats.trouble import PayloadError, Trouble
from service.formats.values import Row, as_rows, load

CAPTURE = b'"captureData"'
TRUTH = b'"groundTruthData"'


@dataclass(frozen=True, slots=True)
class Capture:
    """One captured invocation; a side that was not captured has no rows.

    ``texts`` says that the inputs are CSV, whose cells have no types.
    """

    id: str
    time: str
    inputs: list[Row]
    outputs: list[dict[str, Any]]
    texts: bool


def read_capture(line: bytes, known: tuple[str, ...] = ()) -> Capture:
    """Return what one line of a capture file says."""
    document = _object(load(line, "data"), None)
    captured = _object(document.get("captureData"), "captureData")
    metadata = _object(document.get("eventMetadata"), "eventMetadata")
    name = metadata.get("inferenceId") or metadata.get("eventId")
    time = metadata.get("inferenceTime")
    given = captured.get("endpointInput") or captured.get("batchTransformInput")
    answered = captured.get("endpointOutput") or captured.get("batchTransformOutput")
    inputs, texts = _inputs(given, known) if given is not None else ([], False)
    outputs = _outputs(answered) if answered is not None else []
    if not outputs:
        message = "the output was not captured; capture both, or there is no prediction"
        raise PayloadError(Trouble.NO_DATA, "endpointOutput", message)
    if inputs and len(inputs) != len(outputs):
        message = "input and output have different numbers of rows"
        raise PayloadError(Trouble.BAD_SHAPE, "endpointOutput", message)
    return Capture(_id(name), _time(time), inputs, outputs, texts)


def read_truth(line: bytes) -> list[tuple[str, Any]]:
    """Return the ids and labels of one line of a ground-truth file."""
    document = _object(load(line, "data"), None)
    truth = document.get("groundTruthData")
    metadata = _object(document.get("eventMetadata"), "eventMetadata")
    name = _id(metadata.get("eventId"))
    values = [_only(row) for row in _rows(truth, ())[0]]
    return list(zip(row_ids(name, len(values)), values, strict=True))


def row_ids(name: str, count: int) -> list[str]:
    """Return the prediction ids of the rows of one invocation."""
    return [name] if count == 1 else [f"{name}#{number}" for number in range(count)]


def _inputs(side: Any, known: tuple[str, ...]) -> tuple[list[Row], bool]:
    return _rows(side, known)


def _outputs(side: Any) -> list[dict[str, Any]]:
    rows, texts = _rows(side, ())
    if not texts:
        return [row if isinstance(row, dict) else {UNNAMED: _only(row)} for row in rows]
    return [_csv_output(row) for row in rows]


def _csv_output(row: Row) -> dict[str, Any]:
    """Return the cells of a line of output: numbers by position where there are several."""
    cells = [guess(cell) for cell in row] if isinstance(row, list) else list(row.values())
    if len(cells) == 1 and isinstance(cells[0], str) and cells[0].startswith("["):
        # Of many classes the built-in XGBoost writes a list into one cell.
        found = load(cells[0].encode(), "endpointOutput")
        cells = found if isinstance(found, list) else cells
    if len(cells) == 1:
        return {UNNAMED: cells[0]}
    named = {str(position): cell for position, cell in enumerate(cells)}
    return {UNNAMED: cells, **named}


def _rows(side: Any, known: tuple[str, ...]) -> tuple[list[Row], bool]:
    """Return rows, and whether they are texts of CSV."""
    part = _object(side, "data")
    data, encoding = part.get("data"), part.get("encoding")
    media = part.get("observedContentType")
    if not isinstance(data, str):
        raise PayloadError(Trouble.NO_DATA, "data", "the data is a text, and is not there")
    media = media if isinstance(media, str) else ""
    if encoding == "BASE64":
        data, encoding = _decoded(data), "CSV" if "csv" in media else "JSON"
    if encoding == "CSV":
        return read_csv(data, known), True
    if encoding == "JSON":
        return _json_rows(data, known), False
    message = "the encoding is none of CSV, JSON and BASE64"
    raise PayloadError(Trouble.UNKNOWN_ENCODING, "encoding", message)


def _json_rows(data: str, known: tuple[str, ...]) -> list[Row]:
    content = data.encode("utf-8", "surrogatepass")
    lines = [line for line in content.split(b"\n") if line.strip()]
    try:
        document = load(content, "data")
    except PayloadError as error:
        if error.code != Trouble.MALFORMED_PAYLOAD or not lines[1:]:
            raise
        # application/jsonlines: a row a line.
        return as_rows([load(line, "data") for line in lines], "data")
    if not isinstance(document, dict):
        return as_rows(document if isinstance(document, list) else [document], "data")
    if {"predictions", "outputs", "results"} & document.keys():
        return list(read_outputs(document))
    if {"instances", "inputs", "data", "dataframe_split", "dataframe_records"} & document.keys():
        return read_inputs(document, known)
    return as_rows([document], "data")


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except UnicodeDecodeError:
        message = "the payload is neither CSV nor JSON"
        raise PayloadError(Trouble.BINARY_PAYLOAD, "data", message) from None
    except (binascii.Error, ValueError):
        message = "the data is not base64, as the line says"
        raise PayloadError(Trouble.UNKNOWN_ENCODING, "data", message) from None


def _only(row: Row) -> Any:
    if isinstance(row, dict):
        return next(iter(row.values())) if len(row) == 1 else row
    value = row[0] if len(row) == 1 else row
    return guess(value) if isinstance(value, str) else value


def _object(found: Any, field: str | None) -> dict[str, Any]:
    if not isinstance(found, dict):
        message = "the line is no capture or ground truth of SageMaker"
        raise PayloadError(Trouble.UNKNOWN_PAYLOAD, field, message)
    return found


def _id(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_CORRELATION:
        message = f"the id of an invocation has 1 to {LONGEST_CORRELATION} characters"
        raise PayloadError(Trouble.BAD_EVENT, "eventMetadata", message)
    return name


def _time(time: Any) -> str:
    if not isinstance(time, str):
        raise PayloadError(Trouble.BAD_EVENT, "inferenceTime", "the line has no inferenceTime")
    return time
