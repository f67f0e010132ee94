import base64
import json
from typing import Any

import pytest

from service.formats.sagemaker import read_capture, read_truth
from service.formats.trouble import PayloadError, Trouble

NAMES = ("calls", "age", "charge")


def a_side(data: Any, encoding: Any = "CSV", media: str = "text/csv") -> dict[str, Any]:
    return {"observedContentType": media, "mode": "INPUT", "data": data, "encoding": encoding}


def a_line(given: Any, answered: Any, **metadata: Any) -> bytes:
    captured = {"endpointInput": given, "endpointOutput": answered}
    about = {"eventId": "aaaa", "inferenceId": "42", "inferenceTime": "2022-02-14T17:25:49Z"}
    return json.dumps(
        {
            "captureData": {name: side for name, side in captured.items() if side is not None},
            "eventMetadata": {**about, **metadata},
            "eventVersion": "0",
        }
    ).encode()


def trouble(line: bytes) -> str:
    with pytest.raises(PayloadError) as raised:
        read_capture(line, NAMES)
    return raised.value.code


def test_the_documented_capture_is_read() -> None:
    capture = read_capture(a_line(a_side("132,25,113.2"), a_side("0.0254")), NAMES)
    assert (capture.id, capture.time, capture.texts) == ("42", "2022-02-14T17:25:49Z", True)
    assert capture.inputs == [["132", "25", "113.2"]]
    assert capture.outputs == [{"predictions": 0.0254}]


def test_without_an_inference_id_the_event_id_names_the_row() -> None:
    assert read_capture(a_line(a_side("1,2,3"), a_side("1"), inferenceId=None)).id == "aaaa"


def test_lines_of_csv_are_rows_and_known_names_a_header() -> None:
    capture = read_capture(a_line(a_side("1,2,3\n4,5,6\n"), a_side("0\n1\n")), NAMES)
    assert capture.inputs == [["1", "2", "3"], ["4", "5", "6"]]
    assert capture.outputs == [{"predictions": 0}, {"predictions": 1}]
    capture = read_capture(a_line(a_side("age,calls\n2,1"), a_side("0")), NAMES)
    assert capture.inputs == [{"age": "2", "calls": "1"}]


def test_base64_is_read_by_its_content_type() -> None:
    def encoded(text: str, media: str) -> dict[str, Any]:
        return a_side(base64.b64encode(text.encode()).decode(), "BASE64", media)

    line = a_line(
        encoded("1,2,3", "text/csv"), encoded('{"predictions": [[0.1, 0.9]]}', "application/json")
    )
    capture = read_capture(line, NAMES)
    assert capture.inputs == [["1", "2", "3"]]
    assert capture.outputs == [{"predictions": [0.1, 0.9]}]
    picture = a_side(base64.b64encode(b"\x89PNG\xff").decode(), "BASE64", "image/png")
    assert trouble(a_line(picture, a_side("1"))) == Trouble.BINARY_PAYLOAD


@pytest.mark.parametrize(
    "data",
    [
        '{"instances": [{"features": [1, 2, 3]}]}',
        '{"features": [1, 2, 3]}',
        "[[1, 2, 3]]",
        '{"instances": [[1, 2, 3]]}',
    ],
)
def test_json_inputs_of_built_in_algorithms_are_rows(data: str) -> None:
    capture = read_capture(a_line(a_side(data, "JSON"), a_side("1")), NAMES)
    assert capture.inputs == [[1, 2, 3]]


def test_json_lines_and_single_objects_are_rows() -> None:
    lines = '{"calls": 1}\n{"calls": 2}\n'
    capture = read_capture(a_line(a_side(lines, "JSON"), a_side("1\n0")), NAMES)
    assert capture.inputs == [{"calls": 1}, {"calls": 2}]
    one = read_capture(a_line(a_side('{"calls": 1}', "JSON"), a_side("1")), NAMES)
    assert one.inputs == [{"calls": 1}]


def test_the_output_of_linear_learner_has_names() -> None:
    said = '{"predictions": [{"score": 0.99, "predicted_label": 1}]}'
    capture = read_capture(a_line(a_side("1,2,3"), a_side(said, "JSON")), NAMES)
    assert capture.outputs == [{"score": 0.99, "predicted_label": 1}]


def test_outputs_of_several_columns_are_a_vector_and_have_positions() -> None:
    capture = read_capture(a_line(a_side("1,2,3"), a_side("1,0.83")), NAMES)
    assert capture.outputs == [{"predictions": [1, 0.83], "0": 1, "1": 0.83}]
    listed = read_capture(a_line(a_side("1,2,3"), a_side('"[0.1, 0.2, 0.7]"')), NAMES)
    assert listed.outputs[0]["predictions"] == [0.1, 0.2, 0.7]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", Trouble.MALFORMED_PAYLOAD),
        (b"7", Trouble.UNKNOWN_PAYLOAD),
        (b'{"captureData": {}}', Trouble.UNKNOWN_PAYLOAD),
        (a_line(a_side("1"), None), Trouble.NO_DATA),
        (a_line(a_side("1"), a_side("")), Trouble.NO_DATA),
        (a_line(a_side("1\n2"), a_side("1")), Trouble.BAD_SHAPE),
        (a_line(a_side("1", "XML"), a_side("1")), Trouble.UNKNOWN_ENCODING),
        (a_line(a_side("1", ["CSV"]), a_side("1")), Trouble.UNKNOWN_ENCODING),
        (a_line(a_side("%%%", "BASE64"), a_side("1")), Trouble.UNKNOWN_ENCODING),
        (a_line(a_side('"open'), a_side("1")), Trouble.BAD_CSV),
        (a_line(a_side("a\x00b"), a_side("1")), Trouble.BAD_CSV),
        (a_line(a_side(",".join("1" * 5_000)), a_side("1")), Trouble.COLUMN_COUNT),
        (a_line(a_side("1\n" * 5_001), a_side("1")), Trouble.TOO_MANY_ROWS),
        (a_line(a_side(7), a_side("1")), Trouble.NO_DATA),
        (a_line(a_side("1"), a_side("1"), inferenceId="x" * 200), Trouble.BAD_EVENT),
        (a_line(a_side("1"), a_side("1"), inferenceTime=None), Trouble.BAD_EVENT),
        (a_line(a_side("[" * 50, "JSON"), a_side("1")), Trouble.MALFORMED_PAYLOAD),
    ],
)
def test_a_line_that_cannot_be_read_has_a_verdict(line: bytes, code: Trouble) -> None:
    assert trouble(line) == code


def test_ground_truth_is_ids_and_labels() -> None:
    line = json.dumps(
        {
            "groundTruthData": {"data": "1", "encoding": "CSV"},
            "eventMetadata": {"eventId": "42"},
            "eventVersion": "0",
        }
    )
    assert read_truth(line.encode()) == [("42", 1)]
    many = line.replace('"1"', '"1\\n0"', 1)
    assert read_truth(many.encode()) == [("42#0", 1), ("42#1", 0)]
    with pytest.raises(PayloadError):
        read_truth(b'{"groundTruthData": {"data": 1}, "eventMetadata": {"eventId": "42"}}')
