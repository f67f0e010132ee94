"""Any bytes and any JSON: rows, or a verdict with a name."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.formats.csvs import read_csv
from service.formats.events import read_binary, read_structured
from service.formats.features import name_features
from service.formats.outputs import Mapping, Task, read_output
from service.formats.payloads import read_inputs, read_outputs
from service.formats.sagemaker import read_capture, read_truth
from service.formats.trouble import PayloadError, Trouble
from tests.unit.formats.test_events import AZURE, KSERVE


def judged(error: PayloadError) -> None:
    assert error.code in Trouble
    assert error.detail


KINDS = {"a": "numeric", "b": "categorical", "c": "boolean", "d": "embedding"}
TASKS = (
    Task("binary", ("0", "1"), "1"),
    Task("binary"),
    Task("multiclass", ("x", "y", "z")),
    Task("regression"),
)
WORDS = st.sampled_from(
    (
        *("inputs", "outputs", "instances", "predictions", "data", "columns", "dataframe_split"),
        *("name", "shape", "datatype", "parameters", "content_type", "pd", "FP32", "BYTES", "CSV"),
        *("captureData", "eventMetadata", "endpointInput", "endpointOutput", "encoding", "BASE64"),
        *(
            "JSON",
            "eventId",
            "inferenceTime",
            "a",
            "b",
            "0",
            "1",
            "score",
            "prediction",
            "features",
        ),
    )
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=8)
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {
        "name": WORDS,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | documents,
        "datatype": WORDS,
        "data": st.lists(scalars, max_size=9) | documents,
    },
    optional={"parameters": documents},
)
payloads = (
    documents
    | st.fixed_dictionaries({"inputs": st.lists(tensors, max_size=3)})
    | st.fixed_dictionaries({"outputs": st.lists(tensors, max_size=3)})
    | st.fixed_dictionaries({"data": st.dictionaries(WORDS, documents | tensors, max_size=3)})
)
mappings = st.builds(
    Mapping,
    prediction=st.none() | WORDS,
    score=st.none() | WORDS,
    classes=st.sampled_from(((), ("x", "y"), ("0", "1"))),
    decide=st.none() | st.just("argmax") | st.floats(0, 1),
)


@settings(max_examples=400, deadline=None)
@given(payloads, mappings, st.sampled_from(TASKS))
def test_any_payload_comes_to_rows_or_to_a_verdict(payload: Any, mapping: Any, task: Task) -> None:
    try:
        rows = name_features(read_inputs(payload, KINDS), KINDS)
        assert rows
        assert all(isinstance(row, dict) for row in rows)
    except PayloadError as error:
        judged(error)
    try:
        outputs = read_outputs(payload)
        assert outputs
        for row in outputs:
            said = read_output(row, mapping, task)
            assert said.keys() <= {"prediction", "score", "scores"}
    except PayloadError as error:
        judged(error)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60), st.dictionaries(st.sampled_from(sorted(KSERVE)), st.text(max_size=9))
)
def test_any_event_in_headers_is_read_or_refused(body: bytes, headers: dict[str, str]) -> None:
    try:
        read_binary({**KSERVE, **headers}.items(), "application/json", body)
    except PayloadError as error:
        judged(error)


@settings(max_examples=200, deadline=None)
@given(documents, st.dictionaries(st.sampled_from((*AZURE, "data_base64")), documents, max_size=3))
def test_any_event_in_json_is_read_or_refused(document: Any, overrides: Any) -> None:
    for each in (document, {**AZURE, **overrides}):
        try:
            read_structured(each)
        except PayloadError as error:
            judged(error)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60) | documents.map(json.dumps),
    st.sampled_from(("CSV", "JSON", "BASE64", "XML")),
    st.sampled_from(("text/csv", "application/json")),
)
def test_any_captured_data_is_read_or_refused(data: str, encoding: str, media: str) -> None:
    side = {"data": data, "encoding": encoding, "observedContentType": media}
    about = {"eventId": "e", "inferenceTime": "2026-01-01T00:00:00Z"}
    line = json.dumps({
        "captureData": {"endpointInput": side, "endpointOutput": side},
        "groundTruthData": side, "eventMetadata": about,
    }).encode()  # fmt: skip
    for read in (read_capture, read_truth):
        try:
            assert read(line)
        except PayloadError as error:
            judged(error)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | documents.map(lambda found: json.dumps(found).encode()))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    for read in (read_capture, read_truth):
        try:
            read(line)
        except PayloadError as error:
            judged(error)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_csv_or_refused(text: str) -> None:
    try:
        assert read_csv(text, ("a", "b"))
    except PayloadError as error:
        judged(error)
