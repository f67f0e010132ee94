import base64
import json
from typing import Any

import pytest

from service.formats.events import Event, is_binary_mode, read_binary, read_structured
from service.formats.trouble import PayloadError, Trouble

KSERVE = {
    "ce-specversion": "1.0",
    "ce-id": "0009174a-24a8-4603-b098-09c8799950e9",
    "ce-source": "http://localhost:9081/",
    "ce-type": "org.kubeflow.serving.inference.request",
    "ce-time": "2026-04-10T00:23:26.0789Z",
    "ce-inferenceservicename": "sklearn-iris",
    "ce-namespace": "default",
    "ce-component": "predictor",
    "ce-endpoint": "",
    "ce-metadata": "{}",
}
SELDON = {
    "ce-specversion": "0.3",
    "ce-id": "d0f2",
    "ce-requestid": "a1b2",
    "ce-source": "http:://localhost:8000/",
    "ce-type": "io.seldon.serving.inference.response",
    "ce-time": "2026-04-10T00:23:26Z",
    "ce-inferenceservicename": "income",
    "ce-modelid": "classifier",
    "ce-namespace": "seldon",
    "ce-endpoint": "default",
}
AZURE = {
    "specversion": "1.0",
    "id": "725aa8af-0834-415c-aaf5-c76d0c08f694",
    "source": "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
    "/workspaces/w/onlineEndpoints/loans/deployments/blue",
    "type": "azureml.inference.inputs",
    "datacontenttype": "application/json",
    "time": "2026-04-01T08:51:30Z",
    "data": [{"label": "DRUG", "pattern": "aspirin"}],
    "correlationid": "3711655d-b04c-4aa2-a6c4-6a90cbfcb73f",
    "xrequestid": "3711655d-b04c-4aa2-a6c4-6a90cbfcb73f",
    "modelversion": "default",
    "contentrange": "bytes 0-116/117",
}


def read(headers: dict[str, str], body: bytes = b"{}", media: str = "application/json") -> Event:
    return read_binary(headers.items(), media, body)


def trouble(headers: dict[str, str], body: bytes = b"{}", media: str = "application/json") -> Any:
    with pytest.raises(PayloadError) as raised:
        read(headers, body, media)
    return raised.value.code, raised.value.field


def test_an_event_of_kserve_is_paired_by_its_id() -> None:
    event = read(KSERVE, b'{"instances": [[1]]}')
    assert (event.side, event.correlation) == ("request", KSERVE["ce-id"])
    assert (event.service, event.namespace, event.endpoint) == ("sklearn-iris", "default", None)
    assert event.payload == {"instances": [[1]]}
    assert is_binary_mode(KSERVE)


def test_an_event_of_seldon_is_paired_by_its_request_id() -> None:
    event = read(SELDON)
    assert (event.side, event.correlation, event.endpoint) == ("response", "a1b2", "default")


def test_an_event_of_azure_names_its_endpoint_in_the_source() -> None:
    event = read_structured(AZURE)
    assert (event.side, event.correlation) == ("request", AZURE["correlationid"])
    assert (event.service, event.endpoint, event.version) == ("loans", "blue", "default")
    assert event.payload == AZURE["data"]


@pytest.mark.parametrize("kind", ["model_outputs", "outputs", "response"])
def test_the_names_of_azures_collections_are_sides(kind: str) -> None:
    assert read_structured({**AZURE, "type": f"azureml.inference.{kind}"}).side == "response"


def test_one_collection_may_be_both_sides() -> None:
    assert (
        read_structured({**AZURE, "type": "azureml.inference.model_inputs_outputs"}).side == "both"
    )


def test_data_may_be_base64() -> None:
    encoded = base64.b64encode(b'[{"a": 1}]').decode()
    later = {**AZURE, "data_base64": encoded}
    del later["data"]
    assert read_structured(later).payload == [{"a": 1}]
    earlier = {**AZURE, "specversion": "0.3", "datacontentencoding": "base64", "data": encoded}
    assert read_structured(earlier).payload == [{"a": 1}]
    for wrong in ("=", "a", 7, "é"):
        with pytest.raises(PayloadError):
            read_structured({**later, "data_base64": wrong})


def test_header_values_are_unescaped() -> None:
    assert read({**KSERVE, "ce-id": "k%C3%BCche%20"}).correlation == "küche "
    assert read({**KSERVE, "ce-id": "50%"}).correlation == "50%"
    assert read({**KSERVE, "ce-id": "%ff"}).correlation == "%ff"


def test_the_content_type_is_the_callers_and_is_not_believed() -> None:
    for media in ("", "application/x-www-form-urlencoded", "text/plain"):
        assert read(KSERVE, b'{"instances": [[1]]}', media).payload == {"instances": [[1]]}


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/octet-stream", b'{"inputs": []}\x00\x01'),
        ("application/grpc", b"\x00\x00"),
        ("application/grpc+proto", b"\x00\x00"),
        ("application/x-protobuf", b"\x08\x01"),
        ("application/json", b'{"inputs":[{"parameters":{"binary_data_size":4}}]}\x00\x00\x80\x3f'),
    ],
)
def test_binary_payloads_are_called_what_they_are(media: str, body: bytes) -> None:
    assert trouble(KSERVE, body, media) == (Trouble.BINARY_PAYLOAD, "data")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Trouble.NO_DATA),
        (b"null", Trouble.NO_DATA),
        (b'{"instances": [NaN]}', Trouble.MALFORMED_PAYLOAD),
        (b'{"instances": [1e999]}', Trouble.MALFORMED_PAYLOAD),
        (b"{", Trouble.MALFORMED_PAYLOAD),
        (b"\xff\xfe", Trouble.MALFORMED_PAYLOAD),
        (b"[" * 100_000, Trouble.TOO_DEEP),
        (b"[" * 40 + b"]" * 40, Trouble.TOO_DEEP),
        (b'{"a":' * 40 + b"1" + b"}" * 40, Trouble.TOO_DEEP),
    ],
)
def test_a_body_that_is_no_json_has_a_verdict(body: bytes, code: Trouble) -> None:
    assert trouble(KSERVE, body) == (code, "data")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("specversion", "2.0", Trouble.BAD_EVENT),
        ("specversion", "", Trouble.BAD_EVENT),
        ("type", "", Trouble.BAD_EVENT),
        ("type", "org.kubeflow.serving.inference.feedback", Trouble.UNSUPPORTED_EVENT),
        ("type", "request", None),
        ("id", "", Trouble.BAD_EVENT),
        ("id", "x" * 10_000, Trouble.BAD_EVENT),
        ("id", "x" * 123, Trouble.BAD_EVENT),
        ("id", "a%00b", Trouble.BAD_EVENT),
        ("source", "", Trouble.BAD_EVENT),
        ("source", "s" * 2_000, Trouble.BAD_EVENT),
        ("time", "", Trouble.BAD_EVENT),
    ],
)
def test_attributes_are_checked(name: str, value: str, code: Trouble | None) -> None:
    headers = {**KSERVE, f"ce-{name}": value}
    if code is None:
        assert read(headers).side == "request"
    else:
        assert trouble(headers) == (code, name)


@pytest.mark.parametrize(
    "document", [None, 7, [], "x", {}, {"specversion": 1.0}, {**AZURE, "id": 7}]
)
def test_a_structured_event_that_is_none_has_a_verdict(document: Any) -> None:
    with pytest.raises(PayloadError) as raised:
        read_structured(document)
    assert raised.value.code == Trouble.BAD_EVENT


@pytest.mark.parametrize("name", ["specversion", "type", "id", "source", "time"])
def test_no_detail_repeats_what_was_sent(name: str) -> None:
    with pytest.raises(PayloadError) as raised:
        read({**KSERVE, f"ce-{name}": "s3cret" * 500})
    assert "s3cret" not in json.dumps([raised.value.detail, raised.value.field])
